"""The command line, `nqr`: reads the arguments, calls `operations`, shows events and exits.

Only this package prints, prompts or exits. Modules import heavy packages inside their functions, so that `--help` stays fast.
"""
