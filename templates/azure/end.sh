# Azure: a machine that was powered off from inside still bills, so it deletes its own resource group, with all that was
# made for the attempt. A new identity's role takes minutes to spread, and until then the answer is 403: asked again.
api=https://management.azure.com
meta() {
    curl -sf -m 5 -H 'Metadata: true' "http://169.254.169.254/metadata/$1"
}
field() {
    sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"
}
while :; do
    about=$(meta 'instance/compute?api-version=2021-02-01')
    token=$(meta 'identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F' | field access_token)
    group=/subscriptions/$(echo "$about" | field subscriptionId)/resourcegroups/$(echo "$about" | field resourceGroupName)
    [ "$token" ] && echo "Authorization: Bearer $token" |
        curl -sf -m 20 -o /dev/null -X DELETE -H @- "$api$group?api-version=2021-04-01"
    sleep 5
done
