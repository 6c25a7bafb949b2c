#!/bin/sh
# Installs kepler-ebpf of this checkout as a systemd service, or brings it up to date.
#   install.sh              install to /opt/kepler-ebpf, enable and start
#   install.sh WHEEL        the same from a wheel that was built before
#   install.sh --uninstall  stop and remove; /etc/kepler-ebpf stays
# DESTDIR=FOLDER puts everything below FOLDER and starts nothing.
set -eu
here=$(dirname "$(readlink -f "$0")")
root=$(dirname "$(dirname "$here")")
# shellcheck source=scripts/lib
. "$root/scripts/lib"

prefix=${DESTDIR-}/opt/kepler-ebpf
unit=${DESTDIR-}/etc/systemd/system/kepler-ebpf.service
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
	service disable --now kepler-ebpf.service
	rm -rf "$prefix" "$unit"
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
# Beside the old one, so that a failure leaves a service that runs.
rm -rf "$prefix.new"
mkdir -p "$(dirname "$prefix")"
# shellcheck disable=SC2154 # find_python sets it
"$python" -m venv "$prefix.new"
"$prefix.new/bin/pip" --quiet --disable-pip-version-check install "${source}[kubernetes]"
rm -rf "$prefix"
mv "$prefix.new" "$prefix"
# Scripts name their interpreter by its full path, which the move has changed.
sed -i "1s|^#!.*|#!${prefix#"${DESTDIR-}"}/bin/python|" "$prefix/bin/kepler-ebpf"

install -D -m 644 "$here/kepler-ebpf.service" "$unit"
keep "$here/config.yaml" "$settings"
keep "$here/kepler-ebpf.default" "$options"
service daemon-reload
service enable kepler-ebpf.service
service restart kepler-ebpf.service
say "Installed. The log: journalctl -u kepler-ebpf; the metrics: port 28282 of this host."
