"""`claude` as people find it in a terminal: itself, after a look at who has the conversation.

Two programs that write to one conversation lose what one of them says, without a word (measured);
so whoever starts one by hand that is at work is told what to do instead.
"""

from collections.abc import Mapping

from agent.launcher import INSIDE
from agent.override import CLAUDE, CLAUDE_MUSL, TOOLS

FOLDER = f"{TOOLS}/bin"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROFILE = f"""\
# Login shells set PATH anew; in a terminal of Samovar its folder comes first again.
[ -z "$SAMOVAR_TERMINAL" ] || case :$PATH: in
  *:{FOLDER}:*) ;;
  *) PATH={FOLDER}:$PATH ;;
esac
"""
SHIM = f"""\
#!/bin/sh
# Starts Claude Code; warns first if it would go on with a conversation that is at work.
sessions={INSIDE}/s
wanted= is_fork= next=
for word; do
  [ -z "$next" ] || {{ next=; case $word in -*) ;; *) wanted=$word; continue ;; esac; }}
  case $word in
    --fork-session) is_fork=1 ;;
    -c | -cp | -pc | --continue) wanted=any ;;
    -r | --resume) wanted=any next=1 ;;
    --resume=*) wanted=${{word#*=}} ;;
    --) break ;;
  esac
done

where() {{
  if [ -s "$1/terminal" ]; then
    echo "open in a terminal"
  elif [ ! -e "$1/exit" ] && kill -0 "$(cat "$1/pid")" 2>/dev/null; then
    echo "at work for its thread"
  fi
}}

if [ "$wanted" ] && [ -z "$is_fork" ] && [ -z "$SAMOVAR_ANYWAY" ]; then
  for folder in "$sessions"/*; do
    id=${{folder##*/}}
    [ "$wanted" = any ] || [ "$wanted" = "$id" ] || continue
    is=$(where "$folder" 2>/dev/null)
    [ "$is" ] || continue
    echo "samovar: the conversation $id is $is."
    echo "Two programs on one conversation lose what one of them says. Instead:"
    echo "  go on with it here   press \\"Open in terminal\\" on the page of its task"
    echo "  look at a copy       claude --resume $id --fork-session"
    echo "  do it all the same   SAMOVAR_ANYWAY=1 claude ..."
    exit 1
  done >&2
fi

real={CLAUDE}
for libc in /lib/ld-musl-*.so.1; do [ ! -e "$libc" ] || real={CLAUDE_MUSL}; done
IFS=:
for folder in $PATH; do
  case $folder in */samovar/tools/bin | */samovar/tools/bin/) continue ;; esac
  [ ! -f "$folder/claude" ] || [ ! -x "$folder/claude" ] || {{ real=$folder/claude; break; }}
done
unset IFS
exec "$real" "$@"
"""


def first_on_path(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return an environment in which `claude` is ours."""
    return {**env, "PATH": f"{FOLDER}:{env.get('PATH') or _PATH}"}
