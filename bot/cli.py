"""The door of the program `samovar`.

`samovar --help` is what people type first and scripts type often, so it is text that is kept
here and costs no import; a test holds it to what the commands say of themselves.
"""

import sys

HELP = """\
Usage: samovar [OPTIONS] COMMAND [ARGS]...

  Say what should change in a repository; get a pull request.

  Exit status: 0 done, 1 not possible (the sentence says why), 2 something must
  be set or installed first, 3 something outside does not answer, 70 a bug of
  ours.

Options:
  --state DIRECTORY  Folder for all that is kept on this machine; else
                     $SAMOVAR_STATE.
  --config FILE      Configuration file; else $SAMOVAR_CONFIG, else config.toml
                     in the state folder.
  --version          Show the version and exit.
  -h, --help         Show this message and exit.

Commands:
  attach     Open a shell of a workspace in this terminal.
  chat       Show, open and close chats in workspaces.
  demo       Run the whole main job on this machine with a sample repository.
  doctor     Name what is missing here, and the command that mends it.
  migrate    Bring the records up to the newest schema.
  node       Show, add and remove machines.
  project    Show the repositories that tasks are about.
  recording  Watch again what coding agents and terminals showed.
  rescue     Show and restore what workspaces left behind.
  serve      Run Samovar until Ctrl-C or SIGTERM.
  session    Take an agent's conversation into a terminal, and give it back.
  sign-in    Print a link that signs a browser in, once.
  task       Ask for tasks and look after them.
  terminal   Show, open and close shells in workspaces.
  workspace  Make, show, enter, stop and remove workspaces; files in and out.
"""


def cli() -> None:
    """Run the program with the arguments of this process."""
    if sys.argv[1:] in (["--help"], ["-h"], []):
        sys.stdout.write(HELP)
        return
    from bot.cli_root import cli as program  # noqa: PLC0415  click alone costs more than the help

    program(prog_name="samovar")
