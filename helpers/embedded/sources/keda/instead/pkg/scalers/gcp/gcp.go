// Package gcp stands in for KEDA's: this build asks no Prometheus of Google's.
package gcp

import (
	"errors"
	"net/http"

	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
)

// GcpScopeMonitoringRead is what KEDA would ask Google for.
const GcpScopeMonitoringRead = "https://www.googleapis.com/auth/monitoring.read"

// ErrGoogleApplicationCrendentialsNotFound is KEDA's word for a trigger without Google's credentials.
var ErrGoogleApplicationCrendentialsNotFound = errors.New("google application credentials not found")

// GetGCPOAuth2HTTPTransport finds no credentials.
func GetGCPOAuth2HTTPTransport(*scalersconfig.ScalerConfig, http.RoundTripper, ...string) (http.RoundTripper, error) {
	return nil, ErrGoogleApplicationCrendentialsNotFound
}
