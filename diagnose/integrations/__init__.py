"""Ways into other programs: an excepthook, an IPython extension, a callback of transformers' Trainer.

Nothing is judged in the other program: a traceback, or a case, is handed to llmdoctor in a process of its own.
"""
