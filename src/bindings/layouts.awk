# SPDX-License-Identifier: GPL-2.0
#
# Prints for each field of a driver in `fields` the offset and the size in BTF, as calls of the macros that compare
# them with the bindings (see mod.rs).
#
# usage: awk -v driver=NAME -f layouts.awk fields DUMP
#
# DUMP is the output of `bpftool btf dump ... format raw`: of the driver, or of the kernel and then, after a line
# `own`, of the driver, whose types refer to types of the kernel.

# The list.
FNR == NR {
	if ($1 == driver) {
		count++
		structure[count] = $2
		field[count] = $3
		path[count] = NF > 3 ? $4 : $3
		wanted["'" $2 "'"]
	}
	next
}

# A type, such as: [7] STRUCT 'ptr_ring' size=192 vlen=9
/^\[/ {
	id = substr($1, 2) + 0
	type[id] = $0
	in_structure = 0
	if (own && !first_own)
		first_own = id
	if ($2 != "STRUCT" && $2 != "UNION")
		next
	in_structure = $3 in wanted || $3 == "'(anon)'"
	# The driver's type, if the kernel has one of that name as well.
	if ($2 == "STRUCT" && $3 in wanted && (!($3 in found) || own && found[$3] < first_own))
		found[$3] = id
	next
}

# A member: <tab>'size' type_id=2 bits_offset=1024
/^\t/ {
	if (in_structure)
		members[id] = members[id] $0 "\n"
	next
}

$1 == "own" { own = 1 }

# number(LINE, NAME): returns the value of NAME= in that line, -1 if it has none
function number(line, name) {
	return match(line, " " name "=[0-9]+") ? substr(line, RSTART + length(name) + 2) + 0 : -1
}

function name_of(line,    parts) {
	split(line, parts, "'")
	return parts[2]
}

# find(ID, NAME): returns the line of that member; `at` is the offset in bits of the structure that contains it: of the
# type itself, or of an unnamed one in it
function find(id, name,    lines, count, i, inner) {
	count = split(members[id], lines, "\n")
	for (i = 1; i < count; i++) {
		if (name_of(lines[i]) == name) {
			at = 0
			return lines[i]
		}
		if (name_of(lines[i]) == "(anon)" && (inner = find(number(lines[i], "type_id"), name)) != "") {
			at += number(lines[i], "bits_offset")
			return inner
		}
	}
	return ""
}

# size_of(ID): returns the size of that type, in bytes
function size_of(id,    parts) {
	split(type[id], parts, " ")
	if (parts[2] == "PTR")
		return 8
	if (parts[2] == "ARRAY")
		return number(type[id], "nr_elems") * size_of(number(type[id], "type_id"))
	if (parts[2] ~ /^(TYPEDEF|CONST|VOLATILE|RESTRICT|TYPE_TAG)$/)
		return size_of(number(type[id], "type_id"))
	return number(type[id], "size")
}

# compare(MACRO, VALUE): prints the macro call for the line I of the list
function compare(macro, value,    place, name) {
	place = macro == "size" ? structure[i] : structure[i] ", " path[i]
	name = macro == "size" ? structure[i] : structure[i] "." field[i]
	printf "%s!(%s, %d, \"", macro, place, value
	printf "%s: %s in the bindings is not %d as in the BTF of %s; build in the tree of that kernel, or with another bindgen or libclang",
		name, macro == "offset" ? "offset" : "size", value, driver
	print "\");"
}

END {
	for (i = 1; i <= count; i++) {
		line = ""
		id = found["'" structure[i] "'"]
		if (id != "" && field[i] == "-") {
			compare("size", size_of(id))
			continue
		}
		if (id != "")
			line = find(id, field[i])
		if (line == "" || number(line, "bitfield_size") > 0) {
			printf "%s.%s\n", structure[i], field[i] >"/dev/stderr"
			exit 1
		}
		compare("offset", (at + number(line, "bits_offset")) / 8)
		compare("field_size", size_of(number(line, "type_id")))
	}
}
