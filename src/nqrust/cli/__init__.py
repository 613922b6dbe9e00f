"""The command line, `nqr`. Thin: it gathers what is asked, calls `operations`, shows events and exits. Only
this package prints, prompts or exits. Modules import what is heavy inside their functions, so that
`--help` stays quick."""
