# shellcheck shell=bash
# What all templates share: the run folder, the launcher, signals, and whether a job that is not finished comes back.
#
# Settings, each an environment variable that site.sh or you may set:
#   HPCNN_LAUNCHER       mpirun, srun, or a whole command, as "srun --mpi=pmix"; left out, what fits the MPI at hand
#   HPCNN_MAX_RESTARTS   how often a job may come back (20); 0 is never
#   HPCNN_ON_NODE_LOSS   same: come back with as many nodes (default); shrink: with those that are left

# shellcheck disable=SC2034  # what is set here is used by the templates

# Before `set -u`, which module files may not stand. The template says where it looked: `slurm`.
# shellcheck source=/dev/null disable=SC2154
[[ ! -f $slurm/site.sh ]] || source "$slurm/site.sh"
set -uo pipefail

container=()  # what runs a command in a container: empty, if there is none

say() { printf 'hpcnn: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

# ---- What to run, and where the results go

# Sets `run`, the run folder, which is the same at every restart; `resume`; and `args`, all other arguments.
read_arguments() {
    local job=digits_mlp out=
    args=() resume=auto
    while (($#)); do
        case $1 in
            --out) out=${2:-}; shift ;;
            --out=*) out=${1#*=} ;;
            --resume) resume=${2:-}; shift ;;
            --resume=*) resume=${1#*=} ;;
            --set) args+=("$1" "${2:-}"); shift ;;
            *.toml) job=$(basename "$1" .toml); args+=("$1") ;;
            *) args+=("$1") ;;
        esac
        (($#)) && shift
    done
    run=${out:-runs/$job-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}
    [[ $run == /* ]] || run=$PWD/$run
    run=$run${SLURM_ARRAY_TASK_ID:+/$SLURM_ARRAY_TASK_ID}
    attempt=${SLURM_RESTART_COUNT:-0}
    ((attempt == 0)) || resume=auto
}

# ---- How ranks are started

# Sets `launcher`, the command that starts one rank for each of the job's tasks. A launcher of another MPI would start
# ranks that do not see each other, each training alone.
choose_launcher() {
    local library
    launcher=()
    count_ranks
    export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
    export SLURM_EXPORT_ENV=ALL  # ranks get this environment, also after sbatch --export=NONE
    ((SLURM_NTASKS > 1)) || return 0
    library=$(ask_mpi4py 2>&1) || fail "no MPI: $(tail -n 1 <<<"$library"). $(mend_mpi)"
    case $library in
        Open*) mpi="Open MPI" pmi=pmix others="pmi2|none" ;;
        *) mpi=MPICH pmi=pmi2 others="pmix|none" ;;  # and its kin: Intel MPI, MVAPICH
    esac
    read -ra launcher <<<"${HPCNN_LAUNCHER:-}"
    if ((${#launcher[@]} == 0)); then
        launcher=(mpirun)
        of_this_mpi mpirun || launcher=(srun)
    fi
    case ${launcher[0]##*/} in
        srun) use_srun ;;
        mpirun | mpiexec) use_mpirun ;;
    esac
    say "$SLURM_NTASKS ranks on $SLURM_JOB_NODELIST by ${launcher[*]}"
}

ask_mpi4py() {
    "${container[@]}" python -P -c 'import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version()[:9])'
}

mend_mpi() {
    if ((${#container[@]} == 0)); then
        echo "Activate the environment of hpcnn in $slurm/site.sh, and install an MPI there: pip install 'hpcnn[mpi]'."
    elif [[ -n ${HPCNN_HOST_MPI:-} ]]; then
        echo "HPCNN_HOST_MPI='$HPCNN_HOST_MPI' must name the folder of libmpi.so.12 or libmpi.so.40, and then those of" \
            "all libraries that it needs."
    else
        echo "Name the folder of the host's MPI in HPCNN_HOST_MPI, or build the image with --build-arg MPI=mpich."
    fi
}

# SLURM_NTASKS is that of the first attempt, also when the job has come back with other nodes.
count_ranks() {
    local part ranks=0
    for part in ${SLURM_TASKS_PER_NODE//,/ }; do  # as 2(x3),1
        [[ $part =~ ^([0-9]+)(\(x([0-9]+)\))?$ ]] && ((ranks += BASH_REMATCH[1] * ${BASH_REMATCH[3]:-1}))
    done
    export SLURM_NTASKS=$ranks
}

of_this_mpi() {
    case $("$1" --version 2>/dev/null) in
        *"Open MPI"*) [[ $mpi == "Open MPI" ]] ;;
        *) [[ $mpi == MPICH ]] && command -v "$1" >/dev/null ;;
    esac
}

use_srun() {
    if [[ ${launcher[*]} =~ --mpi[=\ ]($others) ]]; then
        fail "HPCNN_LAUNCHER='$HPCNN_LAUNCHER', but mpi4py uses $mpi: every rank would be alone. Use srun --mpi=$pmi."
    elif [[ ${launcher[*]} != *--mpi* ]]; then
        srun --mpi=list 2>&1 | grep -qw "$pmi" ||
            fail "this Slurm has no --mpi=$pmi, which $mpi needs. Use HPCNN_LAUNCHER=mpirun."
        launcher+=("--mpi=$pmi")
    fi
    # One rank that dies ends all, and each gets its cores: srun does not take them over from sbatch.
    launcher+=("--ntasks=$SLURM_NTASKS" --kill-on-bad-exit "--cpus-per-task=${SLURM_CPUS_PER_TASK:-1}")
}

use_mpirun() {
    local found
    found=$(command -v "${launcher[0]}") || found=missing
    of_this_mpi "${launcher[0]}" || fail "mpi4py uses $mpi, and ${launcher[0]} ($found) is not of it: every rank" \
        "would be alone. Use the mpirun of $mpi, or HPCNN_LAUNCHER='srun --mpi=$pmi'."
    launcher+=(-n "$SLURM_NTASKS")
    [[ $mpi == MPICH ]] || launcher+=(--bind-to none)  # hpcnn shares out the cores; Open MPI would give each rank one
}

# Starts the command on all ranks, with what it says on record, and waits for it. Sets `code`, its exit code.
launch() {
    local recorder watcher
    exec 3> >(trap '' TERM && exec tee -a "$log")
    recorder=$!
    "${launcher[@]}" "${container[@]}" "$@" >&3 2>&1 3>&- &
    launched=$!
    exec 3>&-
    end_launcher_after_ranks &
    watcher=$!
    disown "$watcher"  # or the shell reports its end
    [[ -z $asked ]] || kill -USR1 "$launched"
    wait "$launched"
    while kill -0 "$launched" 2>/dev/null; do wait "$launched"; done  # a signal had ended `wait`, but not the ranks
    wait "$launched"
    code=$?
    kill "$watcher" 2>/dev/null
    timeout 5 tail --pid="$recorder" -f /dev/null
}

# Ends a launcher that outlives the ranks on this node: without this, mpirun of Open MPI waits for its daemon on a node
# that lost its power for as long as Slurm does not notice. Where ranks outlive each other, those elsewhere may go on.
end_launcher_after_ranks() {
    local seen='' gone=0
    trap - USR1 TERM
    [[ ${launcher[*]} != *ulfm* ]] || return 0
    while ((gone < 10)) && sleep 2; do
        if ranks_here; then
            seen=yes gone=0
        elif [[ -n $seen ]]; then
            ((++gone))
        fi
    done
    say "the ranks on this node ended, but ${launcher[0]:-the command} still runs: it is ended"
    kill -TERM "$launched"
    sleep 5
    kill -KILL "$launched" 2>/dev/null
}

# Whether there are ranks of this job on this node: processes that a launcher told their number.
ranks_here() {
    grep -lsz "^SLURM_JOB_ID=$SLURM_JOB_ID\$" /proc/[0-9]*/environ |
        xargs --no-run-if-empty grep -Eqsz '^(OMPI_COMM_WORLD_RANK|PMIX_RANK|PMI_RANK)='
}

# ---- Signals

# Slurm's warning (sbatch --signal=B:USR1@...) and its SIGTERM come here. USR1 lets ranks save and stop after the same
# step under every launcher; to TERM, mpirun of Open MPI leaves them a quarter of a second.
ask_to_stop() {
    say "Slurm sent SIG$1 after ${SECONDS} s: the ranks save and stop"
    asked=$1
    [[ -z $launched ]] || kill -USR1 "$launched" 2>/dev/null
}

# ---- Attempts: a job that comes back is the same job, with the same run folder

begin_attempt() {
    asked='' launched='' code=1
    trap 'ask_to_stop USR1' USR1
    trap 'ask_to_stop TERM' TERM
    mkdir -p "$run/logs" || fail "can't write to the run folder '$run'. Choose another --out."
    ((attempt)) || rm -f "$run/cancelled"
    log=$run/logs/attempt-$attempt.log
    first_step=$(newest_step)
    if [[ $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%k) =~ ^(\(null\))?$ ]]; then
        scontrol update JobId="$SLURM_JOB_ID" Comment="hpcnn:$run"
    fi
    record start null
    say "attempt $attempt of job $SLURM_JOB_ID in $run, from step $first_step"
}

# Decides: done, to be done again, or not worth another try. Does not return.
end_attempt() {
    local step complete=no lost=()
    ! finished || complete=yes
    step=$(newest_step)
    record end "$code"
    ((code != 2)) || give_up "the input is bad: another try would end alike"
    if [[ $complete == yes ]]; then
        say "done: $run/result.json"
        exit 0
    fi
    ((code != 0)) || say "the launcher reported success, but the run is not finished"
    [[ ! -e $run/cancelled ]] || give_up "stopped on request"
    # Else Slurm has ended this attempt, and starts the next one itself, unless the job was cancelled.
    [[ $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) == RUNNING ]] || give_up "ended by Slurm"
    ((code == 75)) || mapfile -t lost < <(lost_nodes)
    ((${#lost[@]} == 0)) || say "nodes that do not answer: ${lost[*]}"
    ((attempt < ${HPCNN_MAX_RESTARTS:-20})) || give_up "not finished after $attempt restarts (HPCNN_MAX_RESTARTS)"
    ((${#lost[@]})) || ! stuck || give_up "no step was saved since step $step: see $log, or ask for more time"
    come_back
}

give_up() {
    say "$1. To go on: the same sbatch command with --out '$run'"
    exit $((code ? code : 1))
}

# The run writes result.json last of all. After a failure one from before this attempt proves nothing.
finished() {
    [[ -f $run/result.json ]] || return
    ((code == 0)) || [[ $run/result.json -nt $run/attempts.jsonl ]]
}

# Whether another restart would be in vain. A signal may come too early for a save, but hardly twice in a row.
stuck() {
    local before=$first_step
    ((attempt > 0)) || return
    [[ -z $asked ]] || before=$(grep '"start"' "$run/attempts.jsonl" | tail -n 2 | head -n 1 | sed 's/.*: //; s/}//')
    ((step <= before))
}

come_back() {
    local excluded left wanted change=()
    trap '' TERM  # which comes from Slurm now
    scontrol requeue "$SLURM_JOB_ID" || give_up "the job can't come back by itself: it needs sbatch --requeue"
    if ((${#lost[@]})); then  # Slurm may take minutes to notice, and would start the job there again
        excluded=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%x)
        [[ $excluded != *null* && -n $excluded ]] || excluded=
        excluded=$(IFS=, && echo "${lost[*]}")${excluded:+,$excluded}
        wanted=$SLURM_JOB_NUM_NODES left=$((SLURM_JOB_NUM_NODES - ${#lost[@]}))
        if [[ ${HPCNN_ON_NODE_LOSS:-same} == shrink ]]; then
            wanted=$left change=("NumNodes=$left" "NumTasks=$((left * SLURM_NTASKS / SLURM_JOB_NUM_NODES))")
        fi
        if (($(nodes_without "$excluded") >= wanted)); then
            change+=("ExcNodeList=$excluded")
        else  # it needs those very nodes: they may come back, and until then Slurm will have noticed
            change+=("StartTime=now+10minutes")
        fi
        scontrol update JobId="$SLURM_JOB_ID" "${change[@]}"
    fi
    say "not finished after step $step: requeued"
    exit 0
}

# Names the nodes of this job on which nothing can be started, if this can be found out.
lost_nodes() {
    local node lost
    lost=$(
        for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
            answers "$node" || echo "$node" &
        done
        wait
    )
    # This very node answers, or the question was wrong.
    [[ -z $lost ]] || grep -qx "$SLURMD_NODENAME" <<<"$lost" || echo "$lost"
}

# Counts the nodes of the partition that can be given work, now or after other work, but for some.
nodes_without() {
    sinfo --noheader --Node --partition="$SLURM_JOB_PARTITION" --format='%N %t' |
        awk '$2 !~ /^(down|dr|fail|futr|inval|unk)|[*]$/ { print $1 }' | sort -u |
        grep -cvxFf <(scontrol show hostnames "$1")
}

answers() { timeout 20 srun --overlap --mem=0 --mpi=none --nodes=1 --ntasks=1 --nodelist="$1" true >/dev/null 2>&1; }

newest_step() {
    local newest
    newest=$(find "$run/checkpoints" -name 'step-*.safetensors' 2>/dev/null | sort | tail -n 1)
    newest=${newest##*/step-}
    echo $((10#0${newest%.safetensors}))
}

# One line of JSON for the start and the end of each attempt.
record() {
    {
        printf '{"attempt": %d, "job_id": %d, ' "$attempt" "$SLURM_JOB_ID"
        printf '"nodes": %d, "tasks": %d, ' "$SLURM_JOB_NUM_NODES" "$SLURM_NTASKS"
        printf '"event": "%s", "time": %d, "exit_code": %s, "step": %d}\n' "$1" "$(date +%s)" "$2" "$(newest_step)"
    } >>"$run/attempts.jsonl"
}
