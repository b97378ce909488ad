package zones

// code is an error code of libzonecfg(3LIB). Its text is part of many
// messages, and some programs exit with its number.
type code int

// The codes that the model can produce, with the numbers of libzonecfg.h.
const (
	zOK                  code = 0
	zNoEntry             code = 6
	zBogusZoneName       code = 7
	zReqdResourceMissing code = 8
	zReqdPropertyMissing code = 9
	zInval               code = 12
	zTooBig              code = 14
	zNoZone              code = 16
	zNoResourceType      code = 17
	zNoResourceID        code = 18
	zNoPropertyType      code = 19
	zNoPropertyID        code = 20
	zBadZoneState        code = 21
	zInvalidDocument     code = 22
	zNameInUse           code = 23
	zInsufficientSpec    code = 29
	zResolvedPath        code = 34
	zPrivProhibited      code = 37
	zPrivRequired        code = 38
	zPrivUnknown         code = 39
	zBrandError          code = 40
	zIncompatible        code = 41
	zAliasDisallow       code = 42
	zClearDisallow       code = 43
	zInvalidProperty     code = 50
	zBadProperty         code = 3
)

// Exit codes of zonecfg and zoneadm.
const (
	exitOK    = 0
	exitErr   = 1
	exitUsage = 2
)

// Error returns the text that zonecfg_strerror has for c.
func (c code) Error() string {
	switch c {
	case zOK:
		return "OK"
	case zBadProperty:
		return "Bad document property"
	case zNoEntry:
		return "No such entry"
	case zBogusZoneName:
		return "Bogus zone name"
	case zReqdResourceMissing:
		return "Required resource missing"
	case zReqdPropertyMissing:
		return "Required property missing"
	case zInval:
		return "Invalid argument"
	case zTooBig:
		return "Argument list too long"
	case zNoZone:
		return "No such zone configured"
	case zNoResourceType:
		return "No such resource type"
	case zNoResourceID:
		return "No such resource with that id"
	case zNoPropertyType:
		return "No such property type"
	case zNoPropertyID:
		return "No such property with that id"
	case zBadZoneState:
		return "Zone state is invalid for the requested operation"
	case zInvalidDocument:
		return "Invalid document"
	case zNameInUse:
		return "Zone name already in use"
	case zInsufficientSpec:
		return "Insufficient specification"
	case zResolvedPath:
		return "Resolved path mismatch"
	case zPrivProhibited:
		return "Specified privilege is prohibited"
	case zPrivRequired:
		return "Required privilege is missing"
	case zPrivUnknown:
		return "Specified privilege is unknown"
	case zBrandError:
		return "Brand-specific error"
	case zIncompatible:
		return "Incompatible settings"
	case zAliasDisallow:
		return "An incompatible rctl already exists for this property"
	case zClearDisallow:
		return "Clearing this property is not allowed"
	case zInvalidProperty:
		return "Specified property is invalid"
	}
	return "Unknown error"
}
