// Package multimail says how a connection to Multimail is to be made; the calls are in multimail/v1.
package multimail

import (
	_ "embed"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// ServiceConfig holds the deadline of every call, and what is tried again; it is the file of the Python client.
//
//go:embed service_config.json
var ServiceConfig string

// Options are those of a connection beside its credentials: deadlines, what is tried again, message sizes, and pings
// that notice a dead line within 25 seconds and are no more frequent than the service takes.
func Options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultServiceConfig(ServiceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20), grpc.MaxCallSendMsgSize(16<<20)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 10 * time.Second}),
	}
}
