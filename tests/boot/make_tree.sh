#!/bin/sh
# Makes the Debian tree that the boot tests boot, in build/boot/tree. Needs root, debootstrap and a Debian mirror.
set -eu
tree=build/boot/tree
[ ! -e $tree/made ] || exit 0
mkdir -p build/boot
rm -rf $tree.new
packages=systemd,systemd-sysv,dbus,udev,cloud-init,python3,iproute2,netbase,ifupdown,ca-certificates,curl,docker.io,iptables,kmod,busybox
# Packages that wait for others are configured in a second round.
debootstrap --variant=minbase --include=$packages bookworm $tree.new || true
DEBIAN_FRONTEND=noninteractive chroot $tree.new apt-get -qq -f install -y
chroot $tree.new docker --version
chroot $tree.new cloud-init --version
rm -rf $tree.new/var/cache/apt/archives/*.deb $tree.new/var/lib/apt/lists/*

# As on a cloud's image: no questions, and docker that starts by itself. In the container that plays the machine, the
# control groups and /proc/sys are mounted read-only at first.
mkdir -p $tree.new/etc/systemd/system/docker.service.d
cat >$tree.new/etc/systemd/system/docker.service.d/here.conf <<'EOF'
[Service]
ExecStartPre=/bin/sh -c 'for each in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw $$each; done; mount -o remount,bind,rw /proc/sys; true'
ExecStartPost=/bin/sh -c 'tar -C /root/image -c . | docker import - train:1'
EOF
# The image of the tests: one program with a shell in it, and what it needs to resolve names.
image=$tree.new/root/image
mkdir -p $image/bin $image/tmp $image/lib64 $image/lib/x86_64-linux-gnu
cp $tree.new/bin/busybox $image/bin/busybox
for name in sh cat echo sleep wget nslookup dd date env yes ls printf seq test true grep timeout; do
    ln -sf busybox $image/bin/$name
done
cp -L $tree.new/lib64/ld-linux-x86-64.so.2 $image/lib64
for name in libc.so.6 libnss_dns.so.2 libnss_files.so.2 libresolv.so.2; do
    cp -L $tree.new/lib/x86_64-linux-gnu/$name $image/lib/x86_64-linux-gnu
done
touch $tree.new/made
mv $tree.new $tree
