package zones

import (
	"slices"
	"strings"
)

// builtinPrivileges returns the sets that all brands of the distributions
// share, with more default privileges.
func builtinPrivileges(more []string) []BrandPrivilege {
	var all []BrandPrivilege
	add := func(set, ipType string, names ...string) {
		for _, n := range names {
			all = append(all, BrandPrivilege{Set: set, Name: n, IPType: ipType})
		}
	}
	add("default", "", "contract_event", "contract_identity", "contract_observer", "file_chown",
		"file_chown_self", "file_dac_execute", "file_dac_read", "file_dac_search", "file_dac_write",
		"file_owner", "file_setid", "ipc_dac_read", "ipc_dac_write", "ipc_owner", "net_bindmlp",
		"net_icmpaccess", "net_mac_aware", "net_privaddr", "proc_audit", "proc_chroot",
		"proc_lock_memory", "proc_owner", "proc_secflags", "proc_setid", "proc_taskid", "sys_acct",
		"sys_admin", "sys_audit", "sys_mount", "sys_nfs", "sys_resource", "sys_smb")
	add("default", "exclusive", "net_rawaccess", "sys_ip_config", "sys_iptun_config", "sys_ppp_config")
	add("default", "", more...)
	add("required", "", "proc_exec", "proc_fork", "sys_mount")
	add("required", "exclusive", "sys_ip_config")
	add("prohibited", "", "dtrace_kernel", "proc_zone", "sys_config", "sys_devices", "sys_linkdir",
		"sys_net_config", "sys_res_config", "sys_suser_compat", "virt_manage", "xvm_control")
	add("prohibited", "shared", "sys_ip_config", "sys_ppp_config")
	return all
}

// knownPrivileges are the privileges of privileges(7) that a zone's limit set
// may name.
var knownPrivileges = strings.Fields(`
	contract_event contract_identity contract_observer cpc_cpu dtrace_kernel dtrace_proc dtrace_user
	file_chown file_chown_self file_dac_execute file_dac_read file_dac_search file_dac_write
	file_downgrade_sl file_flag_set file_link_any file_owner file_read file_setid file_upgrade_sl
	file_write graphics_access graphics_map hyprlofs_control ipc_dac_read ipc_dac_write ipc_owner
	net_access net_bindmlp net_icmpaccess net_mac_aware net_mac_implicit net_observability
	net_privaddr net_rawaccess proc_audit proc_chroot proc_clock_highres proc_exec proc_fork
	proc_info proc_lock_memory proc_owner proc_prioup proc_priocntl proc_secflags proc_session
	proc_setid proc_taskid proc_zone sys_acct sys_admin sys_audit sys_config sys_devices
	sys_dl_config sys_flow_config sys_fs_import sys_ip_config sys_ipc_config sys_iptun_config
	sys_linkdir sys_mount sys_net_config sys_nfs sys_ppp_config sys_res_bind sys_res_config
	sys_resource sys_smb sys_suser_compat sys_time sys_trans_label virt_manage win_colormap
	win_config win_dac_read win_dac_write win_devices win_dga win_downgrade_sl win_fontpath
	win_mac_read win_mac_write win_selection win_upgrade_sl xvm_control`)

// basicPrivileges need no listing in a brand's default set: they belong to
// every zone.
var basicPrivileges = []string{"file_link_any", "file_read", "file_write", "net_access",
	"proc_exec", "proc_fork", "proc_info", "proc_secflags", "proc_session"}

func (b *Brand) privileges(set, ipType string) []string {
	var names []string
	for _, p := range b.Privileges {
		if p.Set == set && (p.IPType == "" || p.IPType == ipType) {
			names = append(names, p.Name)
		}
	}
	return names
}

// checkPrivileges works limitpriv out as zonecfg_get_privset does and returns
// the privilege at fault with the reason, or zOK.
func (b *Brand) checkPrivileges(limitpriv, ipType string) (string, code) {
	if limitpriv == "" || limitpriv == "default" {
		return "", zOK
	}
	set := slices.Clone(basicPrivileges)
	list := limitpriv
	if rest, ok := strings.CutPrefix(limitpriv, "default,"); ok {
		set = append(set, b.privileges("default", ipType)...)
		list = rest
	} else {
		set = nil
	}
	for _, token := range strings.Split(list, ",") {
		name, negated := strings.CutPrefix(token, "!")
		if !negated {
			name, negated = strings.CutPrefix(token, "-")
		}
		name = strings.TrimPrefix(strings.ToLower(name), "priv_")
		group, ok := privilegeGroup(name, b.privileges("default", ipType))
		if !ok {
			return token, zPrivUnknown
		}
		if negated {
			set = slices.DeleteFunc(set, func(p string) bool { return slices.Contains(group, p) })
		} else {
			set = append(set, group...)
		}
	}
	for _, p := range b.privileges("prohibited", ipType) {
		if slices.Contains(set, p) {
			return p, zPrivProhibited
		}
	}
	for _, p := range b.privileges("required", ipType) {
		if !slices.Contains(set, p) {
			return p, zPrivRequired
		}
	}
	return "", zOK
}

func privilegeGroup(name string, zone []string) ([]string, bool) {
	switch name {
	case "all":
		return knownPrivileges, true
	case "zone":
		return append(slices.Clone(basicPrivileges), zone...), true
	case "basic":
		return basicPrivileges, true
	case "none":
		return nil, true
	}
	return []string{name}, slices.Contains(knownPrivileges, name)
}

// privilegeFault is the sentence that zoneadm and zoneadmd print.
func privilegeFault(name string, why code) string {
	switch why {
	case zPrivProhibited:
		return `privilege "` + name + `" is not permitted within the zone's privilege set`
	case zPrivRequired:
		return `required privilege "` + name + `" is missing from the zone's privilege set`
	case zPrivUnknown:
		return `unknown privilege "` + name + `" specified in the zone's privilege set`
	default:
		return "failed to determine the zone's privilege set"
	}
}
