#!/bin/bash
# Makes the demo recording: nginx, node, redis and memcached under load, on loopback, for some seconds. As root:
#
#     docs/demo/record.sh target/release/loopscope agent/testdata/v1.loopscope 40
#
# Needs nginx, node, redis-server, memcached and wrk. Only these processes are recorded, and all of them end with the
# script. With a fourth argument `top` they run for `loopscope top` to look at, until that ends.
set -eu

loopscope=$1 file=$2 seconds=${3:-40} mode=${4:-record}
folder=$(mktemp -d)
pids=
end() {
    # shellcheck disable=SC2086
    kill $pids 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 1' INT TERM

cat > "$folder/nginx.conf" <<NGINX
worker_processes 2;
daemon off;
pid $folder/nginx.pid;
error_log $folder/error.log;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $folder/body; proxy_temp_path $folder/proxy; fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi; scgi_temp_path $folder/scgi;
    server { listen 127.0.0.1:18080; location / { return 200 "hello\n"; } }
}
NGINX

# Every fifth second one request keeps the loop for 250 ms, as a forgotten synchronous call does.
cat > "$folder/server.js" <<'NODE'
let blocked = 0;
require('http').createServer((request, response) => {
  if (Date.now() - blocked > 5000) {
    blocked = Date.now();
    while (Date.now() - blocked < 250);
  }
  response.end(JSON.stringify({ hello: [...Array(50).keys()] }));
}).listen(18081, '127.0.0.1');
NODE

cat > "$folder/client.js" <<'NODE'
const net = require('net');
const lines = { 16379: 'PING\r\n', 11212: 'get nothing\r\n' };
for (const [port, line] of Object.entries(lines)) for (let i = 0; i < 8; i++) {
  const socket = net.connect(port, '127.0.0.1', () => socket.write(line));
  socket.on('data', () => setTimeout(() => socket.write(line), 2)).on('error', () => {});
}
NODE

nginx -c "$folder/nginx.conf" -p "$folder" & pids="$pids $!"; nginx=$!
node "$folder/server.js" & pids="$pids $!"
redis-server --port 16379 --bind 127.0.0.1 --save '' --dir "$folder" --daemonize no > /dev/null & pids="$pids $!"
memcached -l 127.0.0.1 -p 11212 -u nobody -t 4 & pids="$pids $!"
for port in 18080 18081 16379 11212; do
    until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do sleep 0.2; done
done
node "$folder/client.js" & pids="$pids $!"
wrk -t1 -c8 -d600s http://127.0.0.1:18080/ > /dev/null & pids="$pids $!"; load=$!
wrk -t1 -c8 -d600s http://127.0.0.1:18081/ > /dev/null & pids="$pids $!"
sleep 1

filters=
for pid in $pids $(cat "/proc/$nginx/task/$nginx/children"); do filters="$filters --pid $pid"; done
# Halfway the load of nginx ends: a recording in which nothing changes shows little.
(sleep $((seconds / 2)); kill "$load") & pids="$pids $!"
# shellcheck disable=SC2086
case $mode in
top) "$loopscope" top $filters ;;
*) "$loopscope" record -o "$file" --duration "$seconds" $filters ;;
esac
