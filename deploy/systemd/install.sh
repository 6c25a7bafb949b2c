#!/bin/sh
# Installs kepler-ebpf of this checkout as a systemd service, or brings it up to date.
#   install.sh              install to /opt/kepler-ebpf, enable and start
#   install.sh WHEEL        the same from a wheel that was built before
#   install.sh --uninstall  stop and remove; /etc/kepler-ebpf stays
# DESTDIR=FOLDER puts everything below FOLDER and starts nothing.
set -eu
# The unit's user reads and runs what lies here, whatever the umask of who installs it.
umask 022
here=$(dirname "$(readlink -f "$0")")
root=$(dirname "$(dirname "$here")")
# shellcheck source=scripts/lib
. "$root/scripts/lib"

prefix=${DESTDIR-}/opt/kepler-ebpf
unit=${DESTDIR-}/etc/systemd/system/kepler-ebpf.service
socket=${DESTDIR-}/etc/systemd/system/kepler-ebpf.socket
settings=${DESTDIR-}/etc/kepler-ebpf/config.yaml
options=${DESTDIR-}/etc/default/kepler-ebpf

[ "$(id -u)" -eq 0 ] || die "install.sh must run as root: it writes to /opt and /etc and starts a service.
Try: sudo $0"

# systemctl, where it is the running system that is changed.
service() {
	[ -z "${DESTDIR-}" ] || return 0
	[ -d /run/systemd/system ] || {
		say "systemd does not run here, so not done: systemctl $*"
		return 0
	}
	systemctl "$@"
}

# As the unit starts it: as a user that owns nothing, here without rights.
as_unit_user() {
	setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all "$@"
}

# Whether the new program starts. Below a DESTDIR that is closed to that user: for us at least.
new_starts() {
	set -- "$prefix.new/bin/python" -I -m kepler_ebpf --version
	if [ -z "${DESTDIR-}" ] || as_unit_user test -x "$DESTDIR"; then
		as_unit_user "$@" >/dev/null
	else
		"$@" >/dev/null
	fi
}

# Makes the environment $1 of what requirements/$2.txt locks: each file is known by its hash.
environment() {
	# shellcheck disable=SC2154 # find_python sets it
	"$python" -m venv --clear "$1"
	"$1/bin/pip" install --no-compile --require-hashes --only-binary=:all: \
		-r "$root/requirements/$2.txt"
}

# Whether the service starts and stays; the unit would start it again after 5 s.
starts() {
	service restart kepler-ebpf.service || return
	[ -n "${DESTDIR-}" ] || sleep 4
	service is-active --quiet kepler-ebpf.service
}

# What a user may have changed stays; what is new in it lies beside.
keep() {
	if [ -e "$2" ] && ! cmp -s "$1" "$2"; then
		install -m 644 "$1" "$2.new"
		say "$2 is as it was; the present version is $2.new"
	else
		install -D -m 644 "$1" "$2"
	fi
}

case ${1-} in
--uninstall)
	service disable --now kepler-ebpf.socket kepler-ebpf.service
	rm -rf "$prefix" "$unit" "$socket"
	service daemon-reload
	say "Removed. /etc/kepler-ebpf and /etc/default/kepler-ebpf stay."
	exit
	;;
-*) die "unknown option $1; see the first lines of $0" ;;
esac

# A wheel brings its BPF programs along; a checkout compiles them.
if [ $# -gt 0 ]; then
	source=$(readlink -f "$1")
	setup_system python
else
	source=$root
	setup_system python bpf
fi
find_python
export PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# An installation that was interrupted may have left the old one aside.
[ -e "$prefix" ] || [ ! -e "$prefix.old" ] || mv "$prefix.old" "$prefix"
rm -rf "$prefix.old" "$unit.old"
mkdir -p "$(dirname "$prefix")"
# The new one is made beside the old one, so that a failure leaves a service that runs.
trap 'rm -rf "$prefix.new" "$prefix.build"' EXIT
environment "$prefix.new" run
"$root/scripts/prune-venv" "$prefix.new" "$prefix.new/bin/pip"
if [ -d "$source" ]; then
	environment "$prefix.build" build
	"$prefix.build/bin/pip" wheel --no-build-isolation --no-deps --wheel-dir "$prefix.build" "$source"
	source=$(echo "$prefix.build"/kepler_ebpf-*.whl)
fi
"$prefix.new/bin/pip" install --no-index --no-deps "$source"
# Scripts name their interpreter by its full path, which the move will change.
sed -i "1s|^#!.*|#!${prefix#"${DESTDIR-}"}/bin/python|" "$prefix.new/bin/kepler-ebpf"
new_starts || die "The new version does not start. Nothing was changed."

keep "$here/config.yaml" "$settings"
keep "$here/kepler-ebpf.default" "$options"
for each in "$prefix" "$unit"; do
	[ ! -e "$each" ] || mv "$each" "$each.old"
done
mv "$prefix.new" "$prefix"
install -D -m 644 "$here/kepler-ebpf.service" "$unit"
# Its lines are the administrator's to choose, so they are not written over. It is not enabled.
keep "$here/kepler-ebpf.socket" "$socket"
service daemon-reload
service enable kepler-ebpf.service
starts || {
	[ -e "$prefix.old" ] || die "Installed, but the service does not stay up. See journalctl -u kepler-ebpf
and $prefix/bin/kepler-ebpf check"
	for each in "$prefix" "$unit"; do
		rm -rf "$each"
		mv "$each.old" "$each"
	done
	service daemon-reload
	service restart kepler-ebpf.service || :
	die "The new version does not stay up: see journalctl -u kepler-ebpf. The old one is back."
}
rm -rf "$prefix.old" "$unit.old"
say "Installed. The log: journalctl -u kepler-ebpf; the metrics: port 28282 of this host."
