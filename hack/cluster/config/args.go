package config

// APIServerArgs returns the arguments of kube-apiserver. etcd is the URL of the
// store.
func (c Config) APIServerArgs(etcd string) []string {
	args := []string{
		"--etcd-servers=" + etcd,
		"--etcd-cafile=" + c.PKI("etcd-ca.crt"),
		"--etcd-certfile=" + c.PKI("etcd.crt"),
		"--etcd-keyfile=" + c.PKI("etcd.key"),
		"--bind-address=" + c.Bind.String(),
		"--tls-cert-file=" + c.PKI("apiserver.crt"),
		"--tls-private-key-file=" + c.PKI("apiserver.key"),
		"--client-ca-file=" + c.PKI("ca.crt"),
		"--service-cluster-ip-range=" + c.ServiceCIDR.String(),
		"--authorization-mode=Node,RBAC",
		"--anonymous-auth=true", // as kubeadm has it: discovery of a joining node reads cluster-info
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true",
		"--allow-privileged=true",
		"--profiling=false",
		"--kubelet-client-certificate=" + c.PKI("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + c.PKI("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + c.PKI("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.PKI("sa.pub"),
		"--service-account-signing-key-file=" + c.PKI("sa.key"),
		"--proxy-client-cert-file=" + c.PKI("front-proxy-client.crt"),
		"--proxy-client-key-file=" + c.PKI("front-proxy-client.key"),
		"--requestheader-client-ca-file=" + c.PKI("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
	}
	if c.FeatureGates != "" {
		args = append(args, "--feature-gates="+c.FeatureGates)
	}
	if c.Advertised() {
		return append(args, "--advertise-address="+c.Advertise.String())
	}
	// The endpoint reconcilers refuse loopback addresses, so there is none.
	return append(args, "--advertise-address="+c.Bind.String(), "--endpoint-reconciler-type=none")
}

// ControllerManagerArgs returns the arguments of kube-controller-manager.
func (c Config) ControllerManagerArgs() []string {
	return append(c.clientArgs(ControllerManager),
		"--controllers=*,bootstrapsigner,tokencleaner",
		"--use-service-account-credentials=true",
		"--kube-api-qps=200", "--kube-api-burst=400", // the default makes the start wait for itself
		"--service-account-private-key-file="+c.PKI("sa.key"),
		"--root-ca-file="+c.PKI("ca.crt"),
		"--cluster-signing-cert-file="+c.PKI("ca.crt"),
		"--cluster-signing-key-file="+c.PKI("ca.key"),
		"--allocate-node-cidrs=true",
		"--cluster-cidr="+c.PodCIDR.String(),
		"--service-cluster-ip-range="+c.ServiceCIDR.String(),
	)
}

// SchedulerArgs returns the arguments of kube-scheduler.
func (c Config) SchedulerArgs() []string { return c.clientArgs(Scheduler) }

// clientArgs returns what the two components that are clients of the API server
// share. There is one of each, so they need no election.
func (c Config) clientArgs(name string) []string {
	kubeconfig := c.Kubeconfig(name)
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--tls-cert-file=" + c.PKI("components.crt"),
		"--tls-private-key-file=" + c.PKI("components.key"),
		"--client-ca-file=" + c.PKI("ca.crt"),
		"--requestheader-client-ca-file=" + c.PKI("front-proxy-ca.crt"),
		"--leader-elect=false",
		"--profiling=false",
	}
}
