#!/bin/sh
# Makes the Debian tree that the boot tests boot, in build/boot/tree. Needs root, debootstrap and a Debian mirror.
set -eu
tree=build/boot/tree
[ ! -e $tree/made ] || exit 0
mkdir -p build/boot
rm -rf $tree.new
packages=systemd,systemd-sysv,dbus,udev,cloud-init,python3,iproute2,netbase,ifupdown,ca-certificates,curl,docker.io,iptables,kmod
# Packages that wait for others are configured in a second round.
debootstrap --variant=minbase --include=$packages bookworm $tree.new || true
DEBIAN_FRONTEND=noninteractive chroot $tree.new apt-get -qq -f install -y
chroot $tree.new docker --version
chroot $tree.new cloud-init --version
rm -rf $tree.new/var/cache/apt/archives/*.deb $tree.new/var/lib/apt/lists/*

# As on a cloud's image: no questions, and docker that starts by itself. In the container that plays the machine, the
# control groups are mounted read-only at first.
mkdir -p $tree.new/etc/systemd/system/docker.service.d $tree.new/root/image/bin
cat >$tree.new/etc/systemd/system/docker.service.d/here.conf <<'EOF'
[Service]
ExecStartPre=/bin/sh -c 'for each in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw $$each; done; true'
ExecStartPost=/bin/sh -c 'tar -C /root/image -c . | docker import - train:1'
EOF
# The image of the tests: one static program with a shell in it.
cp "$(command -v busybox)" $tree.new/root/image/bin/busybox
for name in sh cat echo sleep wget nslookup dd date env yes ls printf seq test true; do
    ln -sf busybox $tree.new/root/image/bin/$name
done
mkdir -p $tree.new/root/image/tmp
touch $tree.new/made
mv $tree.new $tree
