# Makes the keys of the federation of compose.yaml, below the directory where it is run, and deals them out: to each process its own.
# What it made before stays, but for certificates, which are made anew when they are about to end.
set -eu

fedplane access init keys --expires 366d \
    --server-name nats --server-name nats-1 --server-name nats-2 --server-name localhost --server-name 127.0.0.1

for role in authorizer scheduler aggregator status driver cli; do
    mkdir -p $role
    cp keys/$role.pem $role/credentials.pem
done
cp keys/callout.seed keys/callout.password keys/system.password keys/services.crt keys/clusters.crt authorizer/
cp keys/noise.secret aggregator/

mkdir -p nats
cp keys/callout.conf keys/authorities.crt keys/services.crt nats/
cp keys/nats.pem nats/tls.crt
cp keys/nats.pem nats/tls.key

for cluster in amsterdam berlin copenhagen dublin; do
    mkdir -p $cluster
    fedplane access issue collaborator $cluster --authority keys --expires 366d --output $cluster/credentials.pem
    cp keys/clusters.crt $cluster/
done
