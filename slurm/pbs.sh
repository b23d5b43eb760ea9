#!/bin/bash
# Trains under PBS (PBS Professional, OpenPBS):   qsub slurm/pbs.sh
# With other settings:   qsub -v JOB=jobs/mnist_mlp.toml,RUN=runs/mnist slurm/pbs.sh
#
# The run saves and stops before the time is over. This script then submits itself again, until the run is complete.

#PBS -N hpcnn
#PBS -l select=2:ncpus=2:mpiprocs=2
#PBS -l walltime=01:00:00
#PBS -j oe
#PBS -r y

cd "${PBS_O_WORKDIR:?this is a script for qsub}" || exit 2
# shellcheck source=/dev/null
[ ! -f slurm/site.sh ] || source slurm/site.sh

job=${JOB:-jobs/digits_mlp.toml}
run=${RUN:-runs/$(basename "$job" .toml)}
minutes=${MINUTES:-55} # less than the walltime above

newest() { find "$run/checkpoints" -name 'step-*' 2>/dev/null | sort | tail -n 1; }

before=$(newest)
mpirun -n "$(wc -l <"$PBS_NODEFILE")" python -m hpcnn.train "$job" \
    --set run.display=plain --set "run.max_minutes=$minutes" --out "$run" --resume auto
code=$?

if [ "$code" = 2 ]; then
    exit 2 # bad input: another try would end alike
elif [ -f "$run/result.json" ]; then
    exit 0
elif [ "$(newest)" = "$before" ]; then
    echo "hpcnn: not finished, and no step was saved: given up" >&2
    exit 1
fi
qsub -v "JOB=$job,RUN=$run,MINUTES=$minutes" slurm/pbs.sh
