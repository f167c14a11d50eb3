"""An edited model written down for others to load, in three forms. Knows no service: it is handed the model at a revision.

`model_folder` (a folder for from_pretrained), `changes` (the changed tensors alone), `lora` (a PEFT adapter). `comparison` asks
what was written and the model it was written from the same questions.
"""
