package zfs

// subcommandUsage holds the usage lines of get_usage in zfs_main.c. Nothing
// changes it.
var subcommandUsage = map[string]string{
	"create": "\tcreate [-p] [-o property=value] ... <filesystem>\n" +
		"\tcreate [-ps] [-b blocksize] [-o property=value] ... -V <size> <volume>\n",
	"destroy": "\tdestroy [-fnpRrv] <filesystem|volume>\n" +
		"\tdestroy [-dnpRrv] <filesystem|volume>@<snap>[%<snap>][,...]\n" +
		"\tdestroy <filesystem|volume>#<bookmark>\n",
	"snapshot": "\tsnapshot [-r] [-o property=value] ... <filesystem|volume>@<snap> ...\n",
	"rollback": "\trollback [-rRf] <snapshot>\n",
	"clone":    "\tclone [-p] [-o property=value] ... <snapshot> <filesystem|volume>\n",
	"promote":  "\tpromote <clone-filesystem>\n",
	"rename": "\trename [-f] <filesystem|volume|snapshot> <filesystem|volume|snapshot>\n" +
		"\trename [-f] -p <filesystem|volume> <filesystem|volume>\n" +
		"\trename -r <snapshot> <snapshot>\n",
	"bookmark": "\tbookmark <snapshot> <bookmark>\n",
	"program":  "\tprogram [-jn] [-t <instruction limit>] [-m <memory limit (b)>] <pool> <program file> [lua args...]\n",
	"list": "\tlist [-Hp] [-r|-d max] [-o property[,...]] [-s property]...\n" +
		"\t    [-S property]... [-t type[,...]] [filesystem|volume|snapshot] ...\n",
	"set": "\tset <property=value> ... <filesystem|volume|snapshot> ...\n",
	"get": "\tget [-rHp] [-d max] [-o \"all\" | field[,...]]\n" +
		"\t    [-t type[,...]] [-s source[,...]]\n" +
		"\t    <\"all\" | property[,...]> [filesystem|volume|snapshot|bookmark] ...\n",
	"inherit": "\tinherit [-rS] <property> <filesystem|volume|snapshot> ...\n",
	"upgrade": "\tupgrade [-v]\n" +
		"\tupgrade [-r] [-V version] <-a | filesystem ...>\n",
	"userspace": "\tuserspace [-Hinp] [-o field[,...]] [-s field] ...\n" +
		"\t    [-S field] ... [-t type[,...]] <filesystem|snapshot>\n",
	"groupspace": "\tgroupspace [-Hinp] [-o field[,...]] [-s field] ...\n" +
		"\t    [-S field] ... [-t type[,...]] <filesystem|snapshot>\n",
	"mount": "\tmount\n" +
		"\tmount [-lvO] [-o opts] <-a | filesystem>\n",
	"unmount": "\tunmount [-f] <-a | filesystem|mountpoint>\n",
	"share":   "\tshare [-l] <-a | filesystem>\n",
	"unshare": "\tunshare <-a | filesystem|mountpoint>\n",
	"send": "\tsend [-DnPpRvLecr] [-[iI] snapshot] <snapshot>\n" +
		"\tsend [-Lecr] [-i snapshot|bookmark] <filesystem|volume|snapshot>\n" +
		"\tsend [-nvPe] -t <receive_resume_token>\n",
	"receive": "\treceive [-vnsFu] <filesystem|volume|snapshot>\n" +
		"\treceive [-vnsFu] [-o origin=<snapshot>] [-d | -e] <filesystem>\n" +
		"\treceive -A <filesystem|volume>\n",
	"allow": "\tallow <filesystem|volume>\n" +
		"\tallow [-ldug] <\"everyone\"|user|group>[,...] <perm|@setname>[,...]\n" +
		"\t    <filesystem|volume>\n" +
		"\tallow [-ld] -e <perm|@setname>[,...] <filesystem|volume>\n" +
		"\tallow -c <perm|@setname>[,...] <filesystem|volume>\n" +
		"\tallow -s @setname <perm|@setname>[,...] <filesystem|volume>\n",
	"unallow": "\tunallow [-rldug] <\"everyone\"|user|group>[,...]\n" +
		"\t    [<perm|@setname>[,...]] <filesystem|volume>\n" +
		"\tunallow [-rld] -e [<perm|@setname>[,...]] <filesystem|volume>\n" +
		"\tunallow [-r] -c [<perm|@setname>[,...]] <filesystem|volume>\n" +
		"\tunallow [-r] -s @setname [<perm|@setname>[,...]] <filesystem|volume>\n",
	"hold":       "\thold [-r] <tag> <snapshot> ...\n",
	"holds":      "\tholds [-r] <snapshot> ...\n",
	"release":    "\trelease [-r] <tag> <snapshot> ...\n",
	"diff":       "\tdiff [-FHt] <snapshot> [snapshot|filesystem]\n",
	"remap":      "\tremap <filesystem | volume>\n",
	"load-key":   "\tload-key [-rn] [-L <keylocation>] <-a | filesystem|volume>\n",
	"unload-key": "\tunload-key [-r] <-a | filesystem|volume>\n",
	"change-key": "\tchange-key [-l] [-o keyformat=<value>]\n" +
		"\t    [-o keylocation=<value>] [-o pbkfd2iters=<value>]\n" +
		"\t    <filesystem|volume>\n" +
		"\tchange-key -i [-l] <filesystem|volume>\n",
}
