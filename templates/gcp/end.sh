# Compute Engine: a machine deletes itself with its own token. A power-off leaves a disk that bills, but not the machine,
# so it comes last: after half a minute of tries, or one try at the hard deadline, when the cloud's own timer deletes too.
api=https://compute.googleapis.com/compute/v1
meta() {
    curl -sf -m 5 -H 'Metadata-Flavor: Google' "http://169.254.169.254/computeMetadata/v1/instance/$1"
}
delete() {
    token=$(meta service-accounts/default/token | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p')
    [ "$token" ] || return
    zone=$(meta zone)
    echo "Authorization: Bearer $token" | curl -sf -m 10 -o /dev/null -X DELETE -H @- "$api/$zone/instances/$(meta name)"
}
[ "$1" = hard ] && tries=1 || tries=6
while ! delete && tries=$((tries - 1)) && [ $tries -gt 0 ]; do
    sleep 5
done
poweroff -ff
echo o >/proc/sysrq-trigger
