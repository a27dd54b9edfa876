#!/usr/bin/env bash
# nbdkit-vddk.sh DEST - an nbdkit command with the vddk plugin where the distribution has none (Debian 12).
#
# Debian 13 ships the plugin, in contrib, as a package of one small library that needs only glibc >= 2.34 and functions
# that Debian 12's nbdkit has too. So: read that small index with a private apt configuration, download the one
# package (apt checks its signature chain), unpack it in DEST. Nothing is installed, root is not needed.
# DEST/bin/nbdkit is a wrapper that puts the plugin's path where its caller wrote "vddk".
set -euo pipefail
dest=${1:?usage: nbdkit-vddk.sh DEST}
mkdir -p "$dest/bin"
dest=$(cd -- "$dest" && pwd)
nbdkit=$(command -v nbdkit)
# The archive apt is configured with: it is the one that can be reached from here.
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | LC_ALL=C sort -u | sed -n 1p)
[ -n "$mirror" ] || { echo "apt has no package index of Debian. Next: run apt-get update as root." >&2; exit 1; }

apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state"
: >"$apt/state/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie contrib" >"$apt/sources.list"
cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt/state"; Dir::State::lists "$apt/lists"; Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache"; APT::Architecture "amd64"; APT::Architectures "amd64";
APT::Sandbox::User ""; Acquire::Languages "none";
CONF
export APT_CONFIG=$apt/apt.conf
apt-get -q update >&2
(cd "$apt" && apt-get -q download nbdkit-plugin-vddk >&2 && dpkg-deb -x nbdkit-plugin-vddk_*.deb unpacked)
find "$apt/unpacked" -name nbdkit-vddk-plugin.so -exec cp {} "$dest/" \;
cat >"$dest/bin/nbdkit.new" <<WRAPPER
#!/bin/sh
# nbdkit with a vddk plugin from elsewhere: the first argument that is just "vddk" becomes the plugin's path.
# exec keeps the caller's child a child.
n=\$# found=
while [ "\$n" -gt 0 ]; do
  a=\$1; shift; n=\$((n - 1))
  [ -n "\$found" ] || [ "\$a" != vddk ] || { a=$dest/nbdkit-vddk-plugin.so; found=1; }
  set -- "\$@" "\$a"
done
exec $nbdkit "\$@"
WRAPPER
chmod 755 "$dest/bin/nbdkit.new"
mv -f "$dest/bin/nbdkit.new" "$dest/bin/nbdkit"
"$dest/bin/nbdkit" vddk --dump-plugin | grep -q '^path=' || { echo "The downloaded vddk plugin does not load." >&2; exit 1; }
