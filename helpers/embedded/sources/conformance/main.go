// Command conformance is upstream's end-to-end suite cut down to its NetworkPolicy specs.
//
// Upstream's own e2e.test holds every suite of Kubernetes and takes minutes to build. This main
// registers the same framework, flags and specs of k8s.io/kubernetes/test/e2e/network/netpol, and
// nothing else. It takes upstream's flags, e.g. -kubeconfig and -ginkgo.focus.
package main

import (
	"flag"
	"os"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"

	// Registers the specs.
	_ "k8s.io/kubernetes/test/e2e/network/netpol"

	// Dumps events and pods of a failed spec's namespace, as upstream does.
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
)

// outcome is what RunSpecs wants of a *testing.T outside of `go test`.
type outcome struct{ failed bool }

func (o *outcome) Fail() { o.failed = true }

func main() {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	framework.AfterReadingAllFlags(&framework.TestContext)

	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	result := &outcome{}
	if !ginkgo.RunSpecs(result, "Kubernetes NetworkPolicy e2e", suite, reporter) || result.failed {
		os.Exit(1)
	}
}
