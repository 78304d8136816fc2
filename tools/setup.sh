#!/bin/sh
# Sets up what a make target needs: tools/setup.sh demo|run|test|check|release. See tools/environment.py.
# The Python that does it is the one named by PYTHON, else the one that made .venv, else the first suitable one.
set -u
cd "$(dirname "$0")/.." || exit 1

check='import sys
if sys.version_info < (3, 11): sys.exit("is Python %d.%d" % sys.version_info[:2])
try: import venv, ensurepip
except ImportError: sys.exit("is Python %d.%d without its venv module" % sys.version_info[:2])
print("usable")'
made_by=$(sed -n 's/^executable = //p' .venv/pyvenv.cfg 2>/dev/null)
set_name=${1-}

if [ -n "${PYTHON-}" ]; then
	set -- "$PYTHON"
else
	set -- "$made_by" python3 python3.13 python3.12 python3.14 python3.11 python
fi
found=""
for python in "$@"; do
	said=$("$python" -I -c "$check" 2>&1) || true
	case "$said" in
	usable) exec "$python" -I tools/environment.py "$set_name" ;;
	"is Python "*) found="$found; $python $said" ;;
	*) [ -z "${PYTHON-}" ] || found="; $python cannot be run" ;;
	esac
done
echo "set-up: failed. Python 3.11 or newer with its venv module is needed and was not found${found:+ (${found#; })}." \
	"Install it (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3 …" >&2
exit 1
