package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
)

// doctor looks whether a host can be a node.
type doctor struct {
	config
	try  bool
	host command.Host
}

func doctorCommand() *cobra.Command {
	d := doctor{host: command.Local{}}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host lacks to be a node, and what to do about it",
		Long: `Say what this host lacks to be a node, and what to do about it. Nothing is changed; with --try also what can only be tried, on links
of its own that it removes again. Give it the flags that "reddwarf node" has, or the same file of settings.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.fill(); err != nil {
				return err
			}
			return d.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	d.registerDoctor(cmd.Flags())
	return cmd
}

func (d *doctor) registerDoctor(f *pflag.FlagSet) {
	d.registerHost(f)
	f.StringSliceVar(&d.Brands, "brands", []string{"lx"}, "zone brands that this host is to run")
	f.StringVar(&d.PodinitLX, "podinit-lx", "/opt/reddwarf/lib/podinit-linux", "podinit for zones of the lx brand")
	f.StringVar(&d.PodinitNative, "podinit-native", defaultPodinitNative, "podinit for native zones")
	f.BoolVar(&d.try, "try", false, "make an etherstub and a VNIC, and remove them")
}

// check is one question. It answers with what it found, or with a remedy.
type check struct {
	about string
	ask   func(ctx context.Context) (found string, err error)
}

// remedy is what is wrong and what to do.
type remedy struct{ wrong, do string }

func (r *remedy) Error() string { return r.wrong + "; " + r.do }

func lacks(do, format string, args ...any) error { return &remedy{fmt.Sprintf(format, args...), do} }

// errUnwell is the end of a run that found something.
var errUnwell = errors.New("this host is not ready")

func (d *doctor) run(ctx context.Context, out io.Writer) error {
	bad := 0
	for _, c := range d.checks() {
		found, err := c.ask(ctx)
		if err == nil {
			fmt.Fprintf(out, "ok    %s: %s\n", c.about, found) //nolint:errcheck // nowhere else to say it
			continue
		}
		bad++
		fmt.Fprintf(out, "FAIL  %s: %v\n", c.about, err) //nolint:errcheck // likewise
		var r *remedy
		if !errors.As(err, &r) {
			fmt.Fprintln(out, "      what to do: run that command by hand and mend what it complains about") //nolint:errcheck // likewise
		}
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d of %d checks failed", errUnwell, bad, len(d.checks()))
	}
	return nil
}

func (d *doctor) checks() []check {
	all := []check{
		{"global zone", d.globalZone}, {"zone brands", d.brands}, {"podinit", d.podinit}, {"pool", d.pool},
		{"uplink", d.uplink}, {"packet filter", d.filter}, {"rules", d.rules}, {"record of routes and rules", d.record},
		{"API server", d.api}, {"other nodes", d.peers},
	}
	if d.try {
		all = append(all, check{"links", d.tryLinks})
	}
	return all
}

func (d *doctor) output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := d.host.Run(ctx, command.New(name, args...))
	return strings.TrimSpace(string(out)), err
}

func (d *doctor) globalZone(ctx context.Context) (string, error) {
	name, err := d.output(ctx, "zonename")
	if err == nil && (name != "global" || os.Geteuid() != 0) {
		return "", lacks("run it as root in the global zone", "this is zone %s, user %d", name, os.Geteuid())
	}
	return "root in zone " + name, err
}

func (d *doctor) brands(ctx context.Context) (string, error) {
	f, err := zones.Probe(ctx, d.host)
	if err != nil {
		return "", err
	}
	if slices.Contains(d.Brands, "lx") && !f.LX {
		return "", lacks("use OmniOS or SmartOS, install the lx brand (pkg install brand/lx on OmniOS), or set --brands", "%s has no lx brand", f.Distro)
	}
	return strings.Join(d.Brands, ", ") + " on " + f.Distro, nil
}

func (d *doctor) podinit(context.Context) (string, error) {
	files := map[string]string{"lx": d.PodinitLX, "reddwarf": d.PodinitNative}
	var found []string
	for _, b := range d.Brands {
		fi, err := os.Stat(files[b])
		if err != nil || !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
			return "", lacks("install the program, or set --podinit-lx or --podinit-native", "%q for brand %s is no program", files[b], b)
		}
		found = append(found, files[b])
	}
	return strings.Join(found, ", "), nil
}

func (d *doctor) pool(ctx context.Context) (string, error) {
	health, err := d.output(ctx, "zpool", "list", "-H", "-o", "health", d.Pool)
	if err != nil {
		return "", lacks("set --pool to one that `zpool list` shows", "pool %s: %v", d.Pool, err)
	}
	if health != "ONLINE" {
		return "", lacks("see `zpool status "+d.Pool+"`", "pool %s is %s", d.Pool, health)
	}
	return d.Pool + " is " + health, nil
}

func (d *doctor) links() *network.Host {
	return network.New(d.host, network.Config{Etherstub: d.Etherstub, Record: d.networkRecord()})
}

func (d *doctor) uplink(ctx context.Context) (string, error) {
	u, err := d.links().Uplink(ctx)
	if errors.Is(err, network.ErrNotFound) {
		return "", lacks("give the host an IPv4 address and a default route: pods reach nothing else without", "%v", err)
	}
	return fmt.Sprintf("%s has %s, MTU %d", u.Interface, u.Address, u.MTU), err
}

func (d *doctor) filter(ctx context.Context) (string, error) {
	out, err := d.output(ctx, "ipf", "-V")
	if err != nil {
		return "", lacks("install ipfilter (pkg install network/ipfilter): without it pods reach neither Services nor the world", "%v", err)
	}
	if strings.Contains(out, "Running: yes") {
		return "running", nil
	}
	return "there; the agent enables it", nil
}

// rules lets ipnat read rules of the forms that are used, without loading them.
func (d *doctor) rules(ctx context.Context) (string, error) {
	text := "map net0 from 192.0.2.0/24 ! to 198.51.100.0/24 -> 203.0.113.1/32 portmap tcp/udp 10000:29999\n" +
		"rdr net0 192.0.2.1/32 port 80 -> 192.0.2.2 port 8080 tcp tag rdwhostport\n" +
		"map net0 from 192.0.2.0/24 to 192.0.2.0/24 -> 192.0.2.1/32 portmap tcp/udp 10000:29999 frag\n"
	out, err := d.host.Run(ctx, command.Cmd{Name: "ipnat", Args: []string{"-R", "-nv", "-f", "-"}, Stdin: text})
	if err != nil {
		return "", lacks("report this with the version of the system: its ipnat reads another language", "ipnat does not take the agent's rules: %v", err)
	}
	for line := range strings.Lines(text) {
		if !strings.Contains(string(out), line) {
			return "", lacks("report this with the version of the system: its ipnat prints rules in another form", "ipnat reads %q as %q", strings.TrimSpace(line), out)
		}
	}
	if _, err := ipnat.NewLoader(d.host).CheckTables(ctx, 0); err != nil {
		return "", err
	}
	return "ipnat reads them as they are meant", nil
}

func (d *doctor) record(ctx context.Context) (string, error) {
	left, err := d.links().Remains(ctx)
	if err != nil {
		return "", lacks("see what is in it; the agent does not start with a record that it cannot read", "%s: %v", d.networkRecord(), err)
	}
	return fmt.Sprintf("%d links, routes and rules are the agent's", len(left)), nil
}

func (d *doctor) api(ctx context.Context) (string, error) {
	_, c, err := newClients(d.Kubeconfig, nil)
	if err != nil {
		return "", lacks("run `reddwarf join`", "%v", err)
	}
	if _, err := c.api.CoreV1().Services("").List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return "", lacks("see whether the server of "+d.Kubeconfig+" is reached and knows this node; `reddwarf join` again if the certificate has expired", "%v", err)
	}
	return "answers this node", nil
}

func (d *doctor) peers(ctx context.Context) (string, error) {
	_, c, err := newClients(d.Kubeconfig, nil)
	if err != nil {
		return "", lacks("run `reddwarf join`", "%v", err)
	}
	if _, err := c.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return "", lacks("grant it as README says, or run the agent with --node-routes=false", "other nodes' pods are not reached: %v", err)
	}
	return "can be read, so their pods are reached", nil
}

// tryLinks makes what every pod has, on an etherstub of its own.
func (d *doctor) tryLinks(ctx context.Context) (found string, err error) {
	h := network.New(d.host, network.Config{Etherstub: "rdwdoctor0", Gateway: "rdwdoctor1"})
	defer func() { err = errors.Join(err, h.RemoveVNIC(ctx, "rdwdoctor2"), h.Teardown(ctx)) }()
	if err := h.Setup(ctx, network.Plan{MTU: 1500}); err != nil {
		return "", err
	}
	if err := h.EnsureVNIC(ctx, network.VNIC{Name: "rdwdoctor2", Bandwidth: 10_000_000}); err != nil {
		return "", err
	}
	bw, err := d.output(ctx, "dladm", "show-linkprop", "-c", "-o", "value", "-p", "maxbw", "rdwdoctor2")
	if err == nil && strings.TrimSpace(bw) != "10" {
		err = lacks("report this with the version of the system", "a link limited to 10 Mbit/s says %q", bw)
	}
	return "etherstub, VNICs, their MTU and limit can be made", err
}
