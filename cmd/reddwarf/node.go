package main

import (
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	vklog "github.com/virtual-kubelet/virtual-kubelet/log"
	vklogrus "github.com/virtual-kubelet/virtual-kubelet/log/logrus"
	"k8s.io/klog/v2"
)

func nodeCommand() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Run this host as a node of a Kubernetes cluster",
		Long: `Run this host as a node of a Kubernetes cluster: register the node, run its pods as zones and serve the kubelet API.

Stopping the agent stops no zone: the next one takes them over. The exit status is 96 when the settings are at fault, so that SMF
puts the service into maintenance, and 1 for anything else.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.validate(); err != nil {
				return &settingsError{err}
			}
			log, err := newLog(c.LogLevel)
			if err != nil {
				return &settingsError{err}
			}
			log.Out = cmd.ErrOrStderr()
			// virtual-kubelet and client-go log through package variables; this
			// is the one place that sets them.
			vklog.L = vklogrus.FromLogrus(logrus.NewEntry(log))
			klog.SetOutput(log.WriterLevel(logrus.WarnLevel))
			klog.LogToStderr(false)
			saveMemory()
			a := &agent{config: c, log: logrus.NewEntry(log)}
			return a.run(cmd.Context())
		},
	}
	c.register(cmd.Flags())
	return cmd
}

func newLog(level string) (*logrus.Logger, error) {
	l, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	log := logrus.New()
	log.SetLevel(l)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true, TimestampFormat: logTime})
	return log, nil
}
