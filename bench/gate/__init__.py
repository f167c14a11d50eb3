"""How the encoder of the gate's questions was trained, and how well it tells questions apart."""
