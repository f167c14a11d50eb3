"""`python -m bench endurance`: thousands of streamed questions while batches are edited without a pause, each answer judged."""
