# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Waiting for progress. To be sourced.
#
#    wait_until [--moving PROBE]... COMMAND...    polls until the command succeeds
#    within_cpu SECONDS PID COMMAND...
#                                          polls until the command succeeds, or the process has ended, or has used
#                                          so much more CPU time: for processes that are never idle
#    ended PID...                                 succeeds once all these processes have ended, zombies included
#    pause SECONDS                                sleeps, without a process
#    cpu_of PID...                                a probe: CPU time of these processes
#    size_of FILE...                              a probe: sizes of these files
#
# A wait has no time limit of its own, since a slow machine is not a fault. It fails once nothing has moved for
# PATIENCE seconds: neither has the command succeeded, nor has the output of a probe (a command, one word with
# spaces between its arguments) changed.

PATIENCE=${PATIENCE:-300}

# Opened once, and never written to.
exec {wait_never}<> <(:)

pause() { read -rt "$1" -u "$wait_never" || true; }

cpu_of() {
	local pid fields
	for pid; do
		read -r fields 2>/dev/null <"/proc/$pid/stat" || continue
		# After the name, which may have spaces: user and system time are fields 14 and 15 of all.
		# shellcheck disable=SC2086 # words
		set -- ${fields##*) }
		echo "$pid ${12} ${13}"
	done
}

ended() {
	local pid fields
	for pid; do
		# One that has ended but was not waited for yet is a zombie.
		{ read -r fields <"/proc/$pid/stat"; } 2>/dev/null || continue
		[[ $fields = *") Z "* ]] || return
	done
}

size_of() { stat -c %s "$@" 2>/dev/null || true; }

wait_until() {
	local probes=() probe state='' seen moved=$SECONDS looked=$SECONDS
	while [ "$1" = --moving ]; do
		probes+=("$2")
		shift 2
	done
	until "$@"; do
		pause 0.02
		# A probe may be a process each time, so it runs once in a second.
		[ "$SECONDS" != "$looked" ] || continue
		looked=$SECONDS
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

# succeeds_or_spent LIMIT PID COMMAND...: measures CPU time once in a second, as that takes processes
succeeds_or_spent() {
	"${@:3}" && return
	[ "$SECONDS" != "$spent_looked" ] || return
	spent_looked=$SECONDS
	ended "$2" || [ "$(cpu_seconds "$2")" -ge "$1" ]
}

within_cpu() {
	local limit spent_looked=$SECONDS
	limit=$(($(cpu_seconds "$2") + $1))
	wait_until --moving "cpu_of $2" succeeds_or_spent "$limit" "${@:2}"
	"${@:3}" || {
		echo "expected: success of: ${*:3}"
		echo "seen: none before process $2 had ended, or used $1 s of CPU time"
		return 1
	}
}
