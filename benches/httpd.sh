#!/bin/sh
# httpd on each backend, a raw poll(2) loop with the same answer (benches/raw_poll_httpd.c), and nginx with one worker, by turns,
# under wrk: a constant answer, and files of 1 and 100 KiB that are in memory.
#
#   benches/httpd.sh [rounds [seconds]]      CONNECTIONS=64
#
# Prints requests a second and, where there is /proc, the processor time that one costs the server: the median of the rounds, and the
# ratios to nginx and to the raw loop in the same round (median, least .. greatest). Where the server's CPU is not busy all the time it
# is wrk that decides the first, and the second says what the server could do. Any error that wrk sees, and a body that differs, fails
# it. Each server has the machine's first CPU to itself and wrk the rest, where taskset can do that. nginx sends files by sendfile(2),
# and logs nothing; nginx-open also keeps them open (open_file_cache), for a minute, as httpd does for a second. Their answers have 60
# bytes of fields more.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-3} seconds=${2:-5} port=${PORT:-18473} connections=${CONNECTIONS:-64}
for tool in wrk curl; do
  command -v $tool >/dev/null || { echo "benches/httpd.sh: needs $tool (apt-get install $tool)" >&2; exit 1; }
done
make -s build/examples/httpd
folder=$PWD/build/httpd root=$PWD/build/httpd/root
mkdir -p "$root"
${CC:-cc} -std=c11 -O2 -Wall -Wextra benches/raw_poll_httpd.c -o "$folder/raw"
head -c 1024 /dev/urandom >"$root/1k.bin"
head -c 102400 /dev/urandom >"$root/100k.bin"
printf 'Hello, world!' >"$folder/hello"
servers='raw-poll httpd-poll httpd-epoll httpd-io_uring'
if command -v nginx >/dev/null; then
  servers="$servers nginx nginx-open"
else
  echo 'skipped: nginx (install nginx-light)'
fi
cat >"$folder/nginx.conf" <<END
daemon off;
master_process off; # the process that is started is the worker
pid $folder/nginx.pid;
error_log stderr crit;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  client_body_temp_path $folder; proxy_temp_path $folder; fastcgi_temp_path $folder; uwsgi_temp_path $folder;
  scgi_temp_path $folder;
  types { }
  default_type application/octet-stream;
  server {
    listen 127.0.0.1:$port;
    root $root;
    location = /hello { default_type text/plain; return 200 "Hello, world!"; }
  }
}
END
sed 's/^http {/&\n  open_file_cache max=100;/' "$folder/nginx.conf" >"$folder/nginx-open.conf"
server_cpu='' client_cpu=''
if command -v taskset >/dev/null && [ "$(nproc)" -gt 1 ]; then
  server_cpu='taskset -c 0' client_cpu="taskset -c 1-$(($(nproc) - 1))"
fi
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT
trap 'exit 1' INT TERM

# Processor time of the server so far, in ticks; nothing where that cannot be had.
ticks() {
  sed 's/.*) //' "/proc/$server/stat" 2>/dev/null | awk '{ print $12 + $13 }'
}

# measure NAME PATH BODY: leaves requests a second, and microseconds of processor time for one, in $result
measure() {
  case $1 in
    raw-poll) set -- "$@" "$folder/raw" "$port" ;;
    nginx*) set -- "$@" nginx -e stderr -p "$folder" -c "$folder/$1.conf" ;;
    httpd-*) set -- "$@" build/examples/httpd --port "$port" --root "$root" --backend "${1#httpd-}" ;;
  esac
  name=$1 url=http://127.0.0.1:$port/$2 body=$3
  shift 3
  $server_cpu "$@" >/dev/null 2>"$folder/err" &
  server=$!
  if ! curl -s --retry 20 --retry-connrefused --retry-delay 1 "$url" | cmp - "$body"; then
    echo "benches/httpd.sh: $name answers something else" >&2
    cat "$folder/err" >&2
    exit 1
  fi
  curl -si "$url" >"$folder/$name.answer"
  before=$(ticks)
  output=$($client_cpu wrk -t1 "-c$connections" "-d$seconds" "$url")
  after=$(ticks)
  kill "$server"
  wait "$server" 2>/dev/null || true
  server=
  if echo "$output" | grep -E 'Socket errors|Non-2xx' >&2; then
    echo "benches/httpd.sh: $name lost something" >&2
    exit 1
  fi
  result=$(echo "$output" | awk -v "ticks=$((${after:-0} - ${before:-0}))" -v "second=$(getconf CLK_TCK || echo 100)" '
    / requests in / { requests = $1 }
    /^Requests\/sec/ { print $2, (requests > 0 ? ticks * 1e6 / second / requests : 0) }')
}

: >"$folder/results"
round=0
while [ "$round" -lt "$rounds" ]; do
  round=$((round + 1))
  for what in hello 1k.bin 100k.bin; do
    body=$root/$what
    [ $what != hello ] || body=$folder/hello
    for name in $servers; do
      if [ "$name" = raw-poll ] && [ $what != hello ]; then continue; fi
      measure "$name" $what "$body"
      case $what.$name in hello.httpd-*) cmp "$folder/raw-poll.answer" "$folder/$name.answer" ;; esac
      echo "$what $round $name $result" >>"$folder/results"
    done
  done
done
awk '
  function sorted(values, count,   i, j, value) {
    for (i = 2; i <= count; i++) {
      value = values[i]
      for (j = i - 1; j > 0 && values[j] > value; j--) values[j + 1] = values[j]
      values[j + 1] = value
    }
  }
  # The median of a figure over the rounds, or of its ratios to that of another server: then with the least and the greatest.
  function median(figure, what, name, other,   r) {
    for (r = 1; r <= rounds; r++) ratio[r] = figure[what, r, name] / (other == "" ? 1 : figure[what, r, other])
    sorted(ratio, rounds)
    return ratio[int((rounds + 1) / 2)]
  }
  function beside(figure, what, name, other,   half) {
    if (!((what, 1, other) in figure) || name == other || figure[what, 1, other] == 0) return ""
    half = median(figure, what, name, other)
    return sprintf("  %.2f x %s (%.2f .. %.2f)", half, other, ratio[1], ratio[rounds])
  }
  {
    rate[$1, $2, $3] = $4; time[$1, $2, $3] = $5; if ($2 > rounds) rounds = $2
    if (!(($1, $3) in seen)) { seen[$1, $3] = 1; whats[++known] = $1; names[known] = $3 }
  }
  END {
    for (n = 1; n <= known; n++) {
      printf "%-9s %-15s %8.0f/s%s%s\n", whats[n], names[n], median(rate, whats[n], names[n]),
             beside(rate, whats[n], names[n], "nginx"), beside(rate, whats[n], names[n], "raw-poll")
      if (median(time, whats[n], names[n]) > 0)
        printf "%-25s %8.2f us%s%s\n", "", median(time, whats[n], names[n]),
               beside(time, whats[n], names[n], "nginx"), beside(time, whats[n], names[n], "raw-poll")
    }
  }' "$folder/results"
