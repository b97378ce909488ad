package zones

import "slices"

var commandWords = []string{"add", "cancel", "commit", "create", "delete", "end", "exit", "export",
	"?", "help", "info", "remove", "revert", "select", "set", "clear", "verify"}

// resourceWords are the resource types in the order of usage messages.
var resourceWords = []string{"fs", "net", "device", "rctl", "attr", "dataset", "dedicated-cpu",
	"capped-cpu", "capped-memory", "admin", "security-flags"}

// propertyWords are the properties that every distribution has.
var propertyWords = []string{"special", "raw", "dir", "type", "options", "zonename", "zonepath",
	"autoboot", "ip-type", "pool", "limitpriv", "bootargs", "address", "allowed-address", "physical",
	"defrouter", "name", "value", "match", "priv", "limit", "action", "brand", "ncpus", "locked",
	"swap", "importance", "cpu-shares", "max-lwps", "max-processes", "max-shm-memory",
	"max-shm-ids", "max-msg-ids", "max-sem-ids", "scheduling-class", "hostid", "user", "auths",
	"fs-allowed", "default", "lower", "upper"}

// joyentPropertyWords are in SmartOS and OmniOS only.
var joyentPropertyWords = []string{"mac-addr", "vlan-id", "global-nic", "property", "zfs-io-priority"}

// globalProperties are those that `info` takes and `set` accepts outside of a
// resource.
var globalProperties = []string{"zonename", "zonepath", "brand", "autoboot", "ip-type", "pool",
	"limitpriv", "bootargs", "scheduling-class", "cpu-shares", "max-lwps", "max-processes",
	"max-shm-memory", "max-shm-ids", "max-msg-ids", "max-sem-ids", "hostid", "fs-allowed"}

func isResource(word string) bool { return slices.Contains(resourceWords, word) }

func isProperty(d Distro, word string) bool {
	return slices.Contains(propertyWords, word) ||
		!d.gate() && slices.Contains(joyentPropertyWords, word) ||
		d == SmartOS && word == "uuid"
}

func isGlobalProperty(d Distro, word string) bool {
	return slices.Contains(globalProperties, word) ||
		!d.gate() && word == "zfs-io-priority" ||
		d == SmartOS && word == "uuid"
}

// fieldSizes are the sizes of libzonecfg's fixed fields, with the final NUL.
// Longer values are cut off in silence.
var fieldSizes = map[string]map[string]int{
	"fs":             {"dir": 1024, "special": 1024, "raw": 1024, "type": 16},
	"net":            {"address": 46, "allowed-address": 46, "defrouter": 46, "physical": 32, "global-nic": 32, "mac-addr": 18, "vlan-id": 6},
	"device":         {"match": 1024},
	"rctl":           {"name": 256},
	"attr":           {"name": 256, "type": 256, "value": 2048},
	"dataset":        {"name": 256},
	"dedicated-cpu":  {"ncpus-min": 256, "ncpus-max": 256, "importance": 256},
	"admin":          {"user": 32, "auths": 4096},
	"security-flags": {"default": 1024, "lower": 1024, "upper": 1024},
}

const (
	optionSize    = 1024 // MAX_MNTOPT_STR
	pairNameSize  = 256  // MAXNAMELEN
	pairValueSize = 1024
	attrValueSize = 256 // what validate_attr_type_val can take of a string
	zoneNameSize  = 64  // ZONENAME_MAX
)

// rootSizes are the buffers into which root properties are read; a longer
// value was stored but cannot be read back.
var rootSizes = map[string]int{"zonepath": 1024, "brand": 256, "pool": 256, "bootargs": 256,
	"scheduling-class": 256, "hostid": 11, "fs-allowed": 1024}

// truncate is strlcpy(3C) into a buffer of size bytes.
func truncate(s string, size int) string {
	if size > 0 && len(s) >= size {
		return s[:size-1]
	}
	return s
}
