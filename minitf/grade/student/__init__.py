"""Everything that runs in the process of a submission: the standard library, NumPy, this folder, and no answer.

The grader starts the folder as a program (``python -I minitf/grade/student``); it imports only ``wire`` from it.
"""
