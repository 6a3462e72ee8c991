# Makes docker with the NVIDIA runtime ready. What the image has is used; what is missing is installed, pinned.
# Its output is the first part of the training's log. Nothing here waits for ever: each step has a limit of its own.
set -u
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
toolkit=1.17.8-1

again() {
    for wait in 2 5 10 20 0; do
        timeout 300 "$@" && return
        echo "gpulaunch: failed: $*; $wait s until the next try"
        sleep $wait
    done
    return 1
}
give_up() {
    echo "gpulaunch: $1"
    exit 1
}
install() {
    again apt-get -qq -o DPkg::Lock::Timeout=240 update &&
        again apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=240 install "$@"
}

# Upgrades by themselves would hold the package lock, and restart docker under the training.
systemctl stop apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service 2>/dev/null

if ! command -v dockerd >/dev/null; then
    install docker.io iptables || give_up "docker could not be installed"
fi
if command -v nvidia-smi >/dev/null && ! command -v nvidia-container-runtime-hook >/dev/null; then
    # The base package of some images fixes the version.
    has=$(dpkg-query -Wf '${Version}' nvidia-container-toolkit-base 2>/dev/null) && [ "$has" ] && toolkit=$has
    list=/etc/apt/sources.list.d/nvidia-container-toolkit.list
    key=/usr/share/keyrings/nvidia-container-toolkit-keyring.asc
    if ! grep -rqs libnvidia-container /etc/apt/sources.list.d; then
        again curl -fsSL -m 60 -o $key https://nvidia.github.io/libnvidia-container/gpgkey &&
            echo "deb [signed-by=$key] https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /" >$list
    fi
    set --
    for name in nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1; do
        set -- "$@" "$name=$toolkit"
    done
    install "$@" || give_up "the NVIDIA container toolkit could not be installed"
    # Docker looks for the runtime's hook when it starts.
    systemctl restart docker
fi

# The local disk of an EC2 machine is fast, large and free. All of docker's data is to lie in one place.
disk=/opt/dlami/nvme
for wait in 1 2 4 8 0; do
    [ ! -d $disk ] || mountpoint -q $disk || sleep $wait
done
if mountpoint -q $disk && ! grep -qs $disk /etc/docker/daemon.json; then
    python3 -c '
import json, os
path = "/etc/docker/daemon.json"
has = json.load(open(path)) if os.path.exists(path) else {}
has["data-root"] = "/opt/dlami/nvme/docker"
has.setdefault("features", {})["containerd-snapshotter"] = False
os.makedirs("/etc/docker", exist_ok=True)
json.dump(has, open(path + ".new", "w"))
os.rename(path + ".new", path)
' && systemctl restart docker
fi
again sh -c 'systemctl reset-failed docker; systemctl start docker' || give_up "docker does not start"
again docker version >/dev/null || give_up "docker does not answer"

# The container is kept from the machine's identity. Names are still resolved: on GCP by the same address, over UDP.
for address in 169.254.169.254 168.63.129.16; do
    for port in 80 32526; do
        rule="DOCKER-USER -d $address -p tcp --dport $port -j DROP"
        iptables -w 30 -C $rule 2>/dev/null || iptables -w 30 -I $rule || give_up "the metadata service cannot be blocked"
    done
done
