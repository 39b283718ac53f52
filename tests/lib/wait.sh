# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Waits for progress. Sourced.
#
#    wait_until [--moving PROBE]... COMMAND...    polls until the command succeeds
#    within_cpu SECONDS PID COMMAND...            polls until the command succeeds, the process has ended, or the
#                                                 process has used that much CPU time: for processes that are never
#                                                 idle
#    ended PID...                                 succeeds if all these processes have ended; zombies have ended
#    pause SECONDS                                sleeps, without starting a process
#    cpu_of PID...                                probe: CPU time of these processes
#    size_of FILE...                              probe: sizes of these files
#
# A wait has no time limit, since a slow machine is not a failure. A wait fails once there was no progress for PATIENCE
# seconds: the command has not succeeded, and the output of no probe has changed. A probe is a command: one word, with
# spaces between its arguments.

PATIENCE=${PATIENCE:-300}

# pause() reads from this pipe, which never has data.
exec {wait_never}<> <(:)

pause() { read -rt "$1" -u "$wait_never" || true; }

cpu_of() {
	local pid fields
	for pid; do
		read -r fields 2>/dev/null <"/proc/$pid/stat" || continue
		# The name may have spaces. Of the fields behind it, 12 and 13 are user and system time (14 and 15 of all).
		# shellcheck disable=SC2086 # words
		set -- ${fields##*) }
		echo "$pid ${12} ${13}"
	done
}

ended() {
	local pid fields
	for pid; do
		# A process that has ended stays a zombie until its parent waits for it.
		{ read -r fields <"/proc/$pid/stat"; } 2>/dev/null || continue
		[[ $fields = *") Z "* ]] || return
	done
}

size_of() { stat -c %s "$@" 2>/dev/null || true; }

wait_until() {
	local probes=() probe state='' seen moved=$SECONDS probed=$SECONDS
	while [ "$1" = --moving ]; do
		probes+=("$2")
		shift 2
	done
	until "$@"; do
		pause 0.02
		# A probe may start processes, so it runs once a second.
		[ "$SECONDS" != "$probed" ] || continue
		probed=$SECONDS
		seen=$(for probe in "${probes[@]}"; do $probe; done)
		if [ "$seen" != "$state" ]; then
			state=$seen
			moved=$SECONDS
		elif ((SECONDS - moved >= PATIENCE)); then
			echo "expected: success of: $*"
			echo "seen: nothing moved for $PATIENCE s${state:+; $state}"
			return 1
		fi
	done
}

# cpu_seconds PID
cpu_seconds() {
	local user=0 system=0
	read -r _ user system < <(cpu_of "$1")
	echo $(((user + system) / $(getconf CLK_TCK)))
}

# succeeds_or_spent LIMIT PID COMMAND...: reads CPU time once a second, as reading it starts processes
succeeds_or_spent() {
	"${@:3}" && return
	[ "$SECONDS" != "$spent_probed" ] || return
	spent_probed=$SECONDS
	ended "$2" || [ "$(cpu_seconds "$2")" -ge "$1" ]
}

within_cpu() {
	local limit spent_probed=$SECONDS
	limit=$(($(cpu_seconds "$2") + $1))
	wait_until --moving "cpu_of $2" succeeds_or_spent "$limit" "${@:2}"
	"${@:3}" || {
		echo "expected: success of: ${*:3}"
		echo "seen: none before process $2 had ended, or used $1 s of CPU time"
		return 1
	}
}
