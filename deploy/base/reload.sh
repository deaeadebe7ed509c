# Has nats-server read its files anew when one of them has changed: sh reload.sh PIDFILE FILE...
# A server keeps the certificate that it has read, and these are renewed every few days. To read them anew it ends its connections,
# which are made anew at once; a restart would take the streams away besides.
# The first time counts as a change: between the server's reading and ours there may have been one. Whatever is not there yet is awaited.
pidfile=$1
shift
seen=
while true; do
    now=$(sha256sum "$@") && [ "$now" != "$seen" ] && [ -s "$pidfile" ] && kill -HUP "$(cat "$pidfile")" && seen=$now
    sleep "${RELOAD_SECONDS:-10}"
done
