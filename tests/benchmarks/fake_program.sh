#!/bin/sh
# Stands for every program of benchmarks/: prints figures made of its name and arguments, by the interface of the suite.
value_of() { # OPTION OTHERWISE
    case " $arguments " in
        *" $1 "*) set -- "${arguments#*"$1" }"; echo "${1%% *}" ;;
        *) echo "$2" ;;
    esac
}
arguments="$*"
case " $FAKE_HANGS " in # in a process of its own, which holds on to the pipes
    *" $1 "*) sleep 1000 & echo "$!" >"$FAKE_PID"; wait ;;
esac
case " $FAKE_CRASHES " in
    *" $1 "*) kill -SEGV $$ ;;
esac
case "${0##*/}" in
    bench-stack)
        discipline=$(value_of --discipline message)
        if [ "$discipline" = "$FAKE_LACKS" ]; then
            printf "%s\n" "bench-stack: no discipline '$discipline'" "Run with --help for more information." >&2
            exit 64
        fi
        case $discipline in message) value=1000 ;; inline) value=1200 ;; giant) value=500 ;; striped) value=800 ;; esac
        cpus=1
        case $(value_of --cpus 0) in *,*) cpus=2 ;; esac
        value=$((value * cpus))
        [ "$(value_of --lock '')" != spin ] || value=$((value * 11 / 10))
        [ "$1 $discipline" != "udp giant" ] || value=$((value * 4))
        echo "{\"workload\": \"$1\", \"on\": \"embed\", \"cpus\": $cpus, \"value\": $value, \"unit\": \"1/s\"," \
            '"operations": 200, "seconds": 0.1, "counters": {"messages": 400, "doorbells": 20}}'
        ;;
    bench-lwip | bench-lwip-locking | bench-lwip-messages) echo '{"on": "lwip", "cpus": 1, "value": 400, "unit": "1/s", "operations": 10, "counters": {}}' ;;
    bench-bare) echo '{"on": "bare", "cpus": 1, "value": 2000, "unit": "1/s", "operations": 10, "counters": {}}' ;;
    bench-micro)
        case $1 in ring | call | wheel) ;; *) exit 0 ;; esac
        [ "$1" != ring ] || echo '{"name": "ratio.ring64", "value": 1.6, "unit": "ratio", "low": 1.5, "high": 1.7, "runs": 5, "why": "made up"}'
        [ "$1" != wheel ] || for at in 1000 10000; do
            echo "{\"name\": \"micro.wheel_arm.$at\", \"value\": 30, \"unit\": \"ns\", \"low\": 29, \"high\": 33, \"runs\": 5," \
                "\"why\": \"\", \"of\": \"wheel arm\", \"at\": $at}"
        done
        echo "bench-micro: broke down" >&2
        exit 1
        ;;
    bench-flood)
        echo '{"name": "late.timer_p999", "value": 1200, "unit": "us", "low": 800, "high": 1500, "runs": 3, "why": ""}'
        echo '{"name": "livelock.cpus1", "offered": 2000, "goodput": 900}'
        echo '{"name": "livelock.cpus1", "offered": 1000, "goodput": 1000}'
        ;;
    bench-scale) for cpus in 1 2 64; do
        echo "{\"name\": \"scale.conn\", \"cpus\": $cpus, \"messages\": 2.5, \"line_transfers\": 7, \"forwarded\": 0}"
    done ;;
esac
