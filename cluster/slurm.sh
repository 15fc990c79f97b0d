#!/bin/bash
# An experiment over all nodes of a Slurm allocation (docs/cluster/slurm.md). From the repository's root:
#
#   sbatch cluster/slurm.sh experiments/depth_sweep.py --preset paper
#   sbatch --nodes=4 --gres=gpu:2 --time=12:00:00 cluster/slurm.sh experiments/depth_sweep.py --preset paper
#
# What follows are defaults; what stands on sbatch's command line replaces them.
#
#SBATCH --job-name=labs
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# Two minutes before the time limit this script alone gets SIGTERM: the driver saves while Ray still runs.
#SBATCH --signal=B:TERM@120

set -u

script=${1:-}
if [ ! -f "$script" ]; then
  echo "error: ${script:-nothing} is not an experiment: sbatch cluster/slurm.sh experiments/depth_sweep.py ..." >&2
  exit 2
fi
if [[ " $*" == *" --run-root"* || " $*" == *" --run-name"* ]]; then
  echo "error: the job's number names the run, and RUN_ROOT=... in front of sbatch says where it goes" >&2
  exit 2
fi
if [ -z "${SLURM_JOB_ID:-}" ]; then
  echo "error: this is a job script: start it with sbatch" >&2
  exit 2
fi

job=$SLURM_JOB_ID
nodes=$SLURM_JOB_NUM_NODES
log=$SLURM_SUBMIT_DIR/slurm-$job-ray.log
if [ -d "$SLURM_SUBMIT_DIR/.venv/bin" ]; then
  PATH=$SLURM_SUBMIT_DIR/.venv/bin:$PATH
fi

# --- Ray: one `ray start` per node, apart from every other job's -----------------------------------
#
# Not by `ray symmetric-run` (2.54.1): it refuses where any Ray is visible on the node, ends with
# `ray stop`, which ends every Ray of the user, and exits 0 when `ray start` fails.

# Jobs of one node must not meet. Below the ports that Linux gives to clients (32768 and above).
RAY_PORT=$((20000 + job % 6000 * 2))
RAY_DIRECTORY=/tmp/ray-$job # short: it holds Unix sockets
RAY_HEAD_ADDRESS=$(python -c 'from ray.util import get_node_ip_address as ip; print(ip())') || exit 1
RAY_ADDRESS=$RAY_HEAD_ADDRESS:$RAY_PORT
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
RAY_USAGE_STATS_ENABLED=0
export PATH RAY_PORT RAY_DIRECTORY RAY_HEAD_ADDRESS RAY_ADDRESS RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED

# Runs on every node, as a step of the job; its arguments go to `ray start`.
ray_node() {
  unset RAY_ADDRESS # `ray start --head` refuses to run with it
  local cores=$SLURM_CPUS_ON_NODE memory=${SLURM_MEM_PER_NODE:-0} options=() ray status attempt ended=
  # Left to itself, Ray takes what the machine has, the neighbours' share included. In MiB; 0 is all of it.
  [ "$memory" -gt 0 ] || memory=$((${SLURM_MEM_PER_CPU:-0} * cores))
  if [ "$memory" -gt 0 ]; then # three tenths for objects is Ray's own share
    options=(--memory=$((memory * 6 / 10 << 20)) --object-store-memory=$((memory * 3 / 10 << 20)))
  fi
  trap ended=yes TERM # Slurm signals every process of a step: Ray has it as well, and twice may hang it
  for attempt in 1 2 3; do
    # Any free port for workers and agents: fixed ones are taken where two jobs share a node.
    ray start "$@" "${options[@]}" --block --disable-usage-stats \
      --num-cpus="$cores" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
      --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 &
    ray=$!
    wait $ray
    status=$?
    for _ in {1..40}; do # a signal ends `wait` early
      kill -0 $ray 2>/dev/null || break
      sleep 0.5
    done
    # Where a node takes more than 30 seconds to start (a cold file system, a busy machine), a part of
    # Ray gives up and takes the rest along (2.54.1). The second time everything is in the cache.
    [ -z "$ended" ] || break
    grep -qs 'Timed out waiting for node info' "$RAY_DIRECTORY"/session_latest/logs/ray_client_server*.err || break
    rm -rf "$RAY_DIRECTORY"
  done
  kill -KILL $ray 2>/dev/null
  # What ended it, other than a signal of ours, is in the directory that goes now.
  [ "$status" -gt 128 ] || tail -n 5 "$RAY_DIRECTORY"/session_latest/logs/{gcs_server,raylet,ray_client_server}*.{err,out} 2>/dev/null
  for _ in 1 2 3 4 5; do # Ray's last processes may still write
    rm -rf "$RAY_DIRECTORY" 2>/dev/null
    sleep 0.5
    [ -e "$RAY_DIRECTORY" ] || break
  done
  return $status
}

# All of a node, whatever is bound to a core otherwise: Ray hands the cores out itself.
step() {
  srun --export=ALL --cpu-bind=none --kill-on-bad-exit=0 "$@" >>"$log" 2>&1
}
code="$(declare -f ray_node); ray_node \"\$@\""

end_ray() {
  # The steps only, not this script. A signal to srun would kill them before they clean up.
  scancel --signal=TERM "$job" 2>/dev/null
  wait "${steps[@]}"
}

fail() {
  echo "error: $1; the end of $log:" >&2
  tail -n 20 "$log" >&2
  end_ray
  exit 1
}

# --- signals -----------------------------------------------------------------------------------------

driver=
told= # SIGTERM has come
pass_on= # and the driver has yet to hear of it
requeue=

# Once, and as soon as there is a driver: the signal may come while it starts, before its number is known.
tell_driver() {
  [ -n "$driver" ] && [ -n "$pass_on" ] || return
  pass_on=
  kill -TERM "$driver"
  (sleep 80 && kill -KILL "$driver") 2>/dev/null &
}

# By scancel Slurm itself signals every process of the job, so the driver must not be told again: a
# second signal ends it at once. Before the time limit only this script hears of it.
on_term() {
  local state end left
  told=yes
  read -r state end <<<"$(squeue --noheader --jobs="$job" --format='%T %e' 2>/dev/null)"
  [ "$state" = RUNNING ] || return
  left=$(($(date -d "$end" +%s 2>/dev/null || echo 9999999999) - $(date +%s)))
  [ "$left" -le 200 ] && requeue=yes # the signal may come a minute early
  pass_on=yes
  tell_driver
}
trap on_term TERM

# --- start -------------------------------------------------------------------------------------------

steps=()
: >"$log"
step --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" bash -c "$code" ray_node --head \
  --node-ip-address="$RAY_HEAD_ADDRESS" --port="$RAY_PORT" --ray-client-server-port=$((RAY_PORT + 1)) \
  --temp-dir="$RAY_DIRECTORY" --include-dashboard=false &
steps+=($!)

# Ends when so many nodes have joined.
joined() {
  python - "$1" <<'PYTHON'
import logging, os, socket, sys, time
import ray
host, port = os.environ["RAY_ADDRESS"].rsplit(":", 1)
while True:
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        break
    except OSError:
        time.sleep(0.5)
for attempt in range(100):
    try:
        ray.init(address=f"{host}:{port}", log_to_driver=False, logging_level=logging.ERROR)
        break
    except Exception:  # the head's own node registers a moment after its port is open
        ray.shutdown()
        if attempt == 99:
            raise
        time.sleep(1)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.sleep(0.5)
PYTHON
}

# Wait for $1 nodes, unless a step of Ray's ends before, or (told) this job is to end.
wait_for_nodes() {
  local waiting each attempt
  for attempt in 1 2 3; do # Ray may have to start again, under the connection
    joined "$1" 2>>"$log" &
    waiting=$!
    while kill -0 "$waiting" 2>/dev/null; do
      for each in "${steps[@]}"; do
        if [ -z "$told" ] && ! kill -0 "$each" 2>/dev/null; then
          kill "$waiting"
          fail "Ray has ended on a node before the experiment began"
        fi
      done
      [ -z "$told" ] || kill "$waiting"
      sleep 0.5
    done
    wait "$waiting" && return
    [ -z "$told" ] || return
    sleep 5
  done
  fail "no connection to Ray"
}

wait_for_nodes 1
if [ "$nodes" -gt 1 ] && [ -z "$told" ]; then
  step --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --ntasks-per-node=1 --exclude="$SLURMD_NODENAME" \
    bash -c "$code" ray_node --address="$RAY_ADDRESS" &
  steps+=($!)
  wait_for_nodes "$nodes"
fi

# --- the experiment ----------------------------------------------------------------------------------

# The run is named after the job, so that a job that Slurm starts again finds what it has done so far.
root=${RUN_ROOT:-file://$SLURM_SUBMIT_DIR/runs}
options=(--run-root "$root")
case $root in
  file://*) directory=${root#file://} ;;
  *) directory=runs ;; # an object store: tables and curves are in this directory
esac
begun=("$directory"/*/"$job"/config.json)
if [[ " $*" == *" --resume"[=\ ]* ]]; then
  : # it names the run
elif [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -f "${begun[0]}" ]; then
  options+=(--resume "$(dirname "${begun[0]}")")
else
  options+=(--run-name "$job")
fi

status=143
if [ -z "$told" ]; then
  echo "all nodes ($nodes) have joined; their messages are in $log"
  python "$@" "${options[@]}" &
  driver=$!
  tell_driver
  while kill -0 "$driver" 2>/dev/null; do # a signal ends `wait` early
    wait "$driver"
  done
  wait "$driver" # bash keeps the status of a process that has ended
  status=$?
  driver=
fi
end_ray
if [ -n "$requeue" ] && [ "$status" -ne 0 ]; then
  echo "the time limit is near: the job goes back to the queue and goes on from here"
  scontrol requeue "$job" || echo "error: Slurm does not requeue it: sbatch it again with --resume" >&2
fi
exit "$status"
