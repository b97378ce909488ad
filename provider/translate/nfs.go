package translate

import (
	"fmt"
	"slices"
	"strings"
)

// sameOptions mean the same to mount_nfs(8) of illumos as to nfs(5) of Linux;
// those that end in "=" take a number.
var sameOptions = []string{
	"hard", "soft", "intr", "nointr", "ro", "rw", "nosuid", "noexec", "nodevices",
	"timeo=", "retrans=", "rsize=", "wsize=", "port=", "actimeo=", "acregmin=", "acregmax=", "acdirmin=", "acdirmax=",
}

// otherOptions are called otherwise there, or say what is so anyhow.
var otherOptions = map[string]string{
	"noac": "noac", "nocto": "nocto", "nolock": "llock", "nodev": "nodevices",
	"bg": "", "fg": "", "lock": "", "ac": "", "cto": "", "tcp": "proto=tcp", "noatime": "", "nodiratime": "", "relatime": "", "_netdev": "", "noresvport": "",
	"acl": "", "defaults": "",
}

// NFSOptions returns the mount options of a persistent volume, which are those
// of Linux as a rule, as mount_nfs(8) of illumos takes them. What cannot be had
// there is an error: it may be what somebody's data hang on.
func NFSOptions(options []string) ([]string, error) {
	var out []string
	for _, list := range options {
		for o := range strings.SplitSeq(list, ",") {
			name, value, has := strings.Cut(o, "=")
			word, known := otherOptions[o]
			switch {
			case o == "":
			case known && word == "":
			case known:
				out = append(out, word)
			case !has && slices.Contains(sameOptions, o), has && slices.Contains(sameOptions, name+"=") && digits(value):
				out = append(out, o)
			case name == "vers" || name == "nfsvers":
				major, _, _ := strings.Cut(value, ".")
				if major != "3" && major != "4" {
					return nil, fmt.Errorf("mount option %q: this node speaks versions 3 and 4 of NFS", o)
				}
				out = append(out, "vers="+major)
			case name == "proto" && (value == "tcp" || value == "tcp6"):
				out = append(out, "proto="+value)
			case name == "sec" && slices.Contains([]string{"sys", "krb5", "krb5i", "krb5p"}, value):
				out = append(out, o)
			default:
				return nil, fmt.Errorf("mount option %q has no meaning to mount_nfs(8) of this node", o)
			}
		}
	}
	return out, nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
