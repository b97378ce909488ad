package zfs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// How a property may be changed.
const (
	readOnly = iota
	inheritable
	settable // but not inherited
	atCreation
)

// What its values are.
const (
	isText = iota
	isNumber
	isIndex
)

// property is one row of zfs_prop_table in zfs_prop.c.
type property struct {
	name, column string
	change, form int
	types        int
	values       string // as the usage text says
	fallback     string // the default, in printed form
	index        []string
}

const (
	onFS      = typeFilesystem
	onAll     = typeDataset
	onWrite   = typeFilesystem | typeVolume
	onFSSnap  = typeFilesystem | typeSnapshot
	onSnap    = typeSnapshot
	unlimited = "18446744073709551615" // UINT64_MAX, printed as none
)

func number(name, column string, change, types int, values, fallback string) property {
	return property{name: name, column: column, change: change, form: isNumber, types: types, values: values, fallback: fallback}
}

func text(name, column string, change, types int, values, fallback string) property {
	return property{name: name, column: column, change: change, form: isText, types: types, values: values, fallback: fallback}
}

func index(name, column string, change, types int, values, fallback string, index ...string) property {
	return property{name: name, column: column, change: change, form: isIndex, types: types, values: values, fallback: fallback, index: index}
}

func onOff(name, column string, change, types int, fallback string) property {
	return index(name, column, change, types, "on | off", fallback, "off", "on")
}

const (
	checksums = "on | off | fletcher2 | fletcher4 | sha256 | sha512 | skein | edonr"
	dedups    = "on | off | verify | sha256[,verify], sha512[,verify], skein[,verify], edonr,verify"
	ciphers   = "on | off | aes-128-ccm | aes-192-ccm | aes-256-ccm | aes-128-gcm | aes-192-gcm | aes-256-gcm"
)

// properties returns the table in the order in which `zfs get all` prints it.
// It is a function so that nothing can change it.
func properties() []property {
	return slices.Concat(propertiesOfSpace(), propertiesOfFiles(), propertiesOfStatistics())
}

func propertiesOfSpace() []property {
	return []property{
		text("type", "TYPE", readOnly, onAll, "filesystem | volume | snapshot | bookmark", ""),
		number("creation", "CREATION", readOnly, onAll, "<date>", ""),
		number("used", "USED", readOnly, onAll, "<size>", ""),
		number("available", "AVAIL", readOnly, onWrite, "<size>", ""),
		number("referenced", "REFER", readOnly, onAll, "<size>", ""),
		number("compressratio", "RATIO", readOnly, onAll, "<1.00x or higher if compressed>", ""),
		index("mounted", "MOUNTED", readOnly, onFS, "yes | no", ""),
		text("origin", "ORIGIN", readOnly, onWrite, "<snapshot>", ""),
		number("quota", "QUOTA", settable, onFS, "<size> | none", "0"),
		number("reservation", "RESERV", settable, onWrite, "<size> | none", "0"),
		number("volsize", "VOLSIZE", settable, typeVolume, "<size>", "0"),
		number("volblocksize", "VOLBLOCK", atCreation, typeVolume, "512 to 128k, power of 2", "8192"),
	}
}

func propertiesOfFiles() []property {
	return []property{
		number("recordsize", "RECSIZE", inheritable, onFS, "512 to 1M, power of 2", "131072"),
		text("mountpoint", "MOUNTPOINT", inheritable, onFS, "<path> | legacy | none", "/"),
		text("sharenfs", "SHARENFS", inheritable, onFS, "on | off | share(1M) options", "off"),
		index("checksum", "CHECKSUM", inheritable, onWrite, checksums, "on",
			"on", "off", "fletcher2", "fletcher4", "sha256", "noparity", "sha512", "skein", "edonr"),
		index("compression", "COMPRESS", inheritable, onWrite, "on | off | lzjb | gzip | gzip-[1-9] | zle | lz4", "off",
			"on", "off", "lzjb", "gzip", "gzip-1", "gzip-2", "gzip-3", "gzip-4", "gzip-5", "gzip-6", "gzip-7", "gzip-8", "gzip-9", "zle", "lz4"),
		onOff("atime", "ATIME", inheritable, onFS, "on"),
		onOff("devices", "DEVICES", inheritable, onFSSnap, "on"),
		onOff("exec", "EXEC", inheritable, onFSSnap, "on"),
		onOff("setuid", "SETUID", inheritable, onFSSnap, "on"),
		onOff("readonly", "RDONLY", inheritable, onWrite, "off"),
		onOff("zoned", "ZONED", inheritable, onFS, "off"),
		index("snapdir", "SNAPDIR", inheritable, onFS, "hidden | visible", "hidden", "hidden", "visible"),
		index("aclmode", "ACLMODE", inheritable, onFS, "discard | groupmask | passthrough | restricted", "discard",
			"discard", "groupmask", "passthrough", "restricted"),
		index("aclinherit", "ACLINHERIT", inheritable, onFS, "discard | noallow | restricted | passthrough | passthrough-x", "restricted",
			"discard", "noallow", "restricted", "passthrough", "secure", "passthrough-x"),
		number("createtxg", "CREATETXG", readOnly, onAll, "<uint64>", ""),
		index("canmount", "CANMOUNT", settable, onFS, "on | off | noauto", "on", "off", "on", "noauto"),
		onOff("xattr", "XATTR", inheritable, onFSSnap, "on"),
		index("copies", "COPIES", inheritable, onWrite, "1 | 2 | 3", "1", "1", "2", "3"),
		index("version", "VERSION", settable, onFSSnap, "1 | 2 | 3 | 4 | 5 | current", "5", "1", "2", "3", "4", "5", "current"),
		onOff("utf8only", "UTF8ONLY", atCreation, onFSSnap, "off"),
		index("normalization", "NORMALIZATION", atCreation, onFSSnap, "none | formC | formD | formKC | formKD", "none",
			"none", "formD", "formKC", "formC", "formKD"),
		index("casesensitivity", "CASE", atCreation, onFSSnap, "sensitive | insensitive | mixed", "sensitive",
			"sensitive", "insensitive", "mixed"),
		onOff("vscan", "VSCAN", inheritable, onFS, "off"),
		onOff("nbmand", "NBMAND", inheritable, onFSSnap, "off"),
		text("sharesmb", "SHARESMB", inheritable, onFS, "on | off | sharemgr(1M) options", "off"),
		number("refquota", "REFQUOTA", settable, onFS, "<size> | none", "0"),
		number("refreservation", "REFRESERV", settable, onWrite, "<size> | none", "0"),
	}
}

func propertiesOfStatistics() []property {
	return []property{
		number("guid", "GUID", readOnly, onAll, "<uint64>", ""),
		index("primarycache", "PRIMARYCACHE", inheritable, onAll, "all | none | metadata", "all", "none", "metadata", "all"),
		index("secondarycache", "SECONDARYCACHE", inheritable, onAll, "all | none | metadata", "all", "none", "metadata", "all"),
		number("usedbysnapshots", "USEDSNAP", readOnly, onWrite, "<size>", ""),
		number("usedbydataset", "USEDDS", readOnly, onWrite, "<size>", ""),
		number("usedbychildren", "USEDCHILD", readOnly, onWrite, "<size>", ""),
		number("usedbyrefreservation", "USEDREFRESERV", readOnly, onWrite, "<size>", ""),
		index("defer_destroy", "DEFER_DESTROY", readOnly, onSnap, "yes | no", ""),
		number("userrefs", "USERREFS", readOnly, onSnap, "<count>", ""),
		index("logbias", "LOGBIAS", inheritable, onWrite, "latency | throughput", "latency", "latency", "throughput"),
		index("dedup", "DEDUP", inheritable, onWrite, dedups, "off", "on", "off", "verify", "sha256", "sha256,verify",
			"sha512", "sha512,verify", "skein", "skein,verify", "edonr,verify"),
		text("mlslabel", "MLSLABEL", inheritable, onAll, "<sensitivity label>", "none"),
		index("sync", "SYNC", inheritable, onWrite, "standard | always | disabled", "standard", "standard", "always", "disabled"),
		index("dnodesize", "DNSIZE", inheritable, onFS, "legacy | auto | 1k | 2k | 4k | 8k | 16k", "legacy",
			"legacy", "auto", "1k", "2k", "4k", "8k", "16k"),
		number("refcompressratio", "REFRATIO", readOnly, onAll, "<1.00x or higher if compressed>", ""),
		number("written", "WRITTEN", readOnly, onAll, "<size>", ""),
		text("clones", "CLONES", readOnly, onSnap, "<dataset>[,...]", ""),
		number("logicalused", "LUSED", readOnly, onWrite, "<size>", ""),
		number("logicalreferenced", "LREFER", readOnly, onAll, "<size>", ""),
		number("filesystem_limit", "FSLIMIT", settable, onFS, "<count> | none", unlimited),
		number("snapshot_limit", "SSLIMIT", settable, onWrite, "<count> | none", unlimited),
		number("filesystem_count", "FSCOUNT", readOnly, onFS, "<count>", ""),
		number("snapshot_count", "SSCOUNT", readOnly, onWrite, "<count>", ""),
		index("redundant_metadata", "REDUND_MD", inheritable, onWrite, "all | most", "all", "all", "most"),
		text("receive_resume_token", "RESUMETOK", readOnly, onWrite, "<string token>", ""),
		index("encryption", "ENCRYPTION", atCreation, onAll, ciphers, "off", "off"),
		text("keylocation", "KEYLOCATION", settable, onWrite, "prompt | <file URI>", "none"),
		index("keyformat", "KEYFORMAT", atCreation, onWrite, "none | raw | hex | passphrase", "none", "none"),
		number("pbkdf2iters", "PBKDF2ITERS", atCreation, onWrite, "<iters>", "0"),
		number("special_small_blocks", "SPECIAL_SMALL_BLOCKS", inheritable, onFS, "zero or 512 to 128K, power of 2", "0"),
	}
}

// propertyIndex finds properties by name and short form. Nothing changes it.
var propertyIndex = sync.OnceValue(func() map[string]property {
	index := map[string]property{"name": text("name", "NAME", readOnly, onAll, "", "")}
	for _, p := range properties() {
		index[strings.ToLower(p.column)] = p
	}
	for _, p := range properties() {
		index[p.name] = p
	}
	return index
})

// findProperty returns the native property of a name or of its short form, the
// column's name in lower case. The pseudo property name is one.
func findProperty(name string) (property, bool) {
	p, ok := propertyIndex()[name]
	return p, ok
}

// userProperty is zfs_prop_user: lower case, with a colon.
func userProperty(name string) bool {
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-_.:", c) >= 0) {
			return false
		}
	}
	return strings.Contains(name, ":")
}

// quotaProperty is zfs_prop_userquota.
func quotaProperty(name string) bool {
	for _, prefix := range []string{"userused@", "userquota@", "groupused@", "groupquota@"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// complaint is why a property cannot be set: libzfs' words, and whether the
// simulation and not the host says so.
type complaint struct {
	reason    string
	simulated bool
}

// badProperty is the complaint with libzfs' words.
func badProperty(format string, args ...any) *complaint {
	return &complaint{reason: fmt.Sprintf(format, args...)}
}

// checkProperty returns the full name and the stored value for a property that
// is to be set, as zfs_valid_proplist does. creating allows those that can be
// set once; zoned is whether the dataset, or its parent, is.
func checkProperty(name, value string, types int, creating, zoned bool) (string, string, *complaint) {
	p, native := findProperty(name)
	if !native && userProperty(name) {
		switch {
		case len(name) >= 256:
			return "", "", badProperty("property name '%s' is too long", name)
		case len(value) >= 8192:
			return "", "", badProperty("property value too long")
		}
		return name, value, nil
	}
	switch {
	case types == typeSnapshot:
		return "", "", badProperty("this property can not be modified for snapshots")
	case !native && quotaProperty(name):
		return "", "", &complaint{"quotas of users and groups are not simulated", true}
	case !native && strings.HasPrefix(name, "written@"):
		return "", "", badProperty("'%s' is readonly", name)
	case !native:
		return "", "", badProperty("invalid property '%s'", name)
	case p.types&types == 0:
		return "", "", badProperty("'%s' does not apply to datasets of this type", name)
	case p.change == readOnly || p.change == atCreation && !creating:
		return "", "", badProperty("'%s' is readonly", name)
	}
	value, why := p.parse(name, value)
	if why == nil {
		why = p.check(name, value, zoned)
	}
	return p.name, value, why
}

// parse is zprop_parse_value: it returns the value in its stored form.
func (p property) parse(name, value string) (string, *complaint) {
	switch p.form {
	case isIndex:
		if !slices.Contains(p.index, value) {
			if p.name == "encryption" || p.name == "keyformat" {
				return "", &complaint{"encryption is not simulated", true}
			}
			return "", badProperty("'%s' must be one of '%s'", p.name, p.values)
		}
		switch {
		case p.name == "aclinherit" && value == "secure":
			value = "restricted"
		case p.name == "version" && value == "current":
			value = "5"
		}
	case isNumber:
		return p.parseNumber(name, value)
	case isText:
		if len(value) >= 8192 {
			return "", badProperty("'%s' is too long", name)
		}
	}
	return value, nil
}

func (p property) parseNumber(name, value string) (string, *complaint) {
	var n uint64
	switch value {
	case "none":
		if strings.HasSuffix(p.name, "_limit") {
			return unlimited, nil
		}
	case "auto":
		if p.name == "refreservation" {
			return "", badProperty("'%s=auto' only allowed on volumes", name)
		}
		return "", badProperty("'auto' is invalid value for '%s'", name)
	default:
		var why string
		if n, why = parseNumber(value); why != "" {
			return "", badProperty("%s", why)
		}
		if n == 0 && (p.name == "quota" || p.name == "refquota") {
			return "", badProperty("use 'none' to disable quota/refquota")
		}
	}
	return strconv.FormatUint(n, 10), nil
}

// check applies the rules of single properties.
func (p property) check(name, value string, zoned bool) *complaint {
	switch p.name {
	case "recordsize":
		n, _ := strconv.ParseUint(value, 10, 64)
		if n < 512 || n > 1<<20 || n&(n-1) != 0 {
			return badProperty("'%s' must be power of 2 from 512B to 1024KB", name)
		}
	case "mountpoint":
		if value != "none" && value != "legacy" {
			if why := checkMountpoint(value); why != "" {
				return badProperty("%s", why)
			}
		}
		fallthrough
	case "sharenfs", "sharesmb":
		if zoned && value != "none" && value != "legacy" {
			return badProperty("'%s' cannot be set on dataset in a non-global zone", name)
		}
		if p.name != "mountpoint" && value != "off" {
			return &complaint{"shares are not simulated", true}
		}
	case "mlslabel", "keylocation":
		if value != "none" {
			return &complaint{p.name + " is not simulated", true}
		}
	}
	return nil
}
