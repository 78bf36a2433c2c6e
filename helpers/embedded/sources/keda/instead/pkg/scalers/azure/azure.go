// Package azure stands in for KEDA's: this build asks no Prometheus of Microsoft's.
package azure

import (
	"errors"
	"net/http"

	"github.com/go-logr/logr"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
)

// Names under which KEDA's resolver hands a service principal to a scaler of Azure's.
const (
	ServicePrincipalAuthKey                      = "azureServicePrincipal"
	ServicePrincipalTenantIDKey                  = "azureServicePrincipalTenantId"
	ServicePrincipalClientIDKey                  = "azureServicePrincipalClientId"
	ServicePrincipalCloudKey                     = "azureServicePrincipalCloud"
	ServicePrincipalActiveDirectoryEndpointKey   = "azureServicePrincipalActiveDirectoryEndpoint"
	ServicePrincipalClientSecretKey              = "azureServicePrincipalClientSecret"
	ServicePrincipalClientCertificateKey         = "azureServicePrincipalClientCertificate"
	ServicePrincipalClientCertificatePasswordKey = "azureServicePrincipalClientCertificatePassword"
)

// TryAndGetAzureManagedPrometheusHTTPRoundTripper refuses a trigger that speaks of Azure, and leaves the others alone.
func TryAndGetAzureManagedPrometheusHTTPRoundTripper(
	_ logr.Logger, identity kedav1alpha1.AuthPodIdentity, _ map[string]string,
) (http.RoundTripper, error) {
	if identity.Provider == kedav1alpha1.PodIdentityProviderAzureWorkload {
		return nil, errors.New("this build of KEDA has nothing of Azure")
	}
	return nil, nil
}
