package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// resolve prints the addresses of a name, in order.
func resolve(ctx context.Context, args []string, out io.Writer) (int, error) {
	if len(args) != 1 {
		return 2, errors.New("resolve: which NAME?")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, args[0])
	if err != nil {
		return 1, err
	}
	slices.Sort(addresses)
	for _, a := range addresses {
		if _, err := fmt.Fprintln(out, a); err != nil {
			return 1, err
		}
	}
	return 0, nil
}
