package testbed

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// The world outside the cluster knows one name. Its name server, which hosts
// have in their resolv.conf, is on the LAN.
const (
	OutsideName    = "www.outside.example"
	OutsideAddress = "203.0.113.80"
)

// corednsImage is what the registries serve CoreDNS as.
const corednsImage = "coredns/coredns:1"

//go:embed coredns.yaml
var corednsManifest string

// corednsFlags make a registry serve CoreDNS where a script has built it.
func corednsFlags() []string {
	program := os.Getenv("REDDWARF_COREDNS")
	if program == "" {
		return nil
	}
	return []string{"--coredns", program, "--tag", corednsImage + "=coredns"}
}

// CoreDNS is the manifest of a DNS server for the cluster, whose pods run on
// illumos nodes.
func CoreDNS(domain string) string {
	return strings.NewReplacer("DOMAIN", domain, "IMAGE", Registry+"/"+corednsImage).Replace(corednsManifest)
}

// StartDNS makes CoreDNS the cluster's DNS server and waits for it. Its pods
// need the controller of Services to reach the API server.
func (b *Bed) StartDNS(ctx context.Context, domain string) error {
	if _, err := b.KubectlIn(ctx, CoreDNS(domain), "apply", "-f", "-"); err != nil {
		return err
	}
	b.say("waiting for CoreDNS")
	_, err := b.Kubectl(ctx, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=3m")
	return err
}

// nameServer is the DNS server of the world outside.
type nameServer struct {
	udp   net.PacketConn
	tcp   net.Listener
	serve sync.WaitGroup
}

func startNameServer(ctx context.Context) (*nameServer, error) {
	var lc net.ListenConfig
	at := net.JoinHostPort(APIServer, "53")
	udp, err := lc.ListenPacket(ctx, "udp", at)
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	tcp, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("name server: %w", err), udp.Close())
	}
	s := &nameServer{udp: udp, tcp: tcp}
	s.serve.Go(s.serveUDP)
	s.serve.Go(s.serveTCP)
	return s, nil
}

// close ends the server, and returns when it has.
func (s *nameServer) close() error {
	err := errors.Join(s.udp.Close(), s.tcp.Close())
	s.serve.Wait()
	return err
}

func (s *nameServer) serveUDP() {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		if reply, err := answer(buf[:n]); err == nil {
			s.udp.WriteTo(reply, from) //nolint:errcheck // who asked asks again
		}
	}
}

func (s *nameServer) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return // closed
		}
		s.serve.Go(func() { answerOnce(c) })
	}
}

// answerOnce answers the first question of a connection and closes it.
func answerOnce(c net.Conn) {
	defer c.Close()                                 //nolint:errcheck // all is said
	c.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // reads fail instead
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, query); err != nil {
		return
	}
	if reply, err := answer(query); err == nil {
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)) //nolint:errcheck // who asked asks again
	}
}

// answer knows the address of OutsideName, and that nothing else exists.
func answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.RecursionAvailable = true, true, true
	m.RCode = dnsmessage.RCodeNameError
	m.Answers, m.Authorities, m.Additionals = nil, nil, nil
	for _, q := range m.Questions {
		if !strings.EqualFold(q.Name.String(), OutsideName+".") {
			continue
		}
		m.RCode = dnsmessage.RCodeSuccess
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(OutsideAddress).To4())},
			})
		}
	}
	return m.Pack()
}
