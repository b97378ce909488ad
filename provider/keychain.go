package provider

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// keychain returns the credentials of a pod's imagePullSecrets. A secret that
// does not exist is left out, as a kubelet does: the image may be public.
func (p *Provider) keychain(ctx context.Context, pod *corev1.Pod) (authn.Keychain, error) {
	var keys secretKeychain
	for _, ref := range pod.Spec.ImagePullSecrets {
		s, err := p.c.Cluster.Secret(ctx, pod.Namespace, ref.Name)
		if apierrors.IsNotFound(err) {
			p.c.Log.Warnf("pod %s/%s: image pull secret %q does not exist", pod.Namespace, pod.Name, ref.Name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("image pull secret %q: %w", ref.Name, err)
		}
		entries, err := parsePullSecret(s)
		if err != nil {
			p.c.Log.Warnf("pod %s/%s: image pull secret %q: %v", pod.Namespace, pod.Name, ref.Name, err)
			continue
		}
		keys = append(keys, entries...)
	}
	return keys, nil
}

// credential is what one entry of a pull secret gives to a registry.
type credential struct {
	host, path string // path may be empty: the whole registry
	auth       authn.AuthConfig
}

type secretKeychain []credential

// Resolve implements authn.Keychain: the longest path that fits wins.
func (k secretKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	_, repository, _ := strings.Cut(target.String(), "/")
	best := -1
	for i, c := range k {
		if c.host != target.RegistryStr() || !below(repository, c.path) {
			continue
		}
		if best < 0 || len(c.path) > len(k[best].path) {
			best = i
		}
	}
	if best < 0 {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(k[best].auth), nil
}

func below(repository, path string) bool {
	return path == "" || repository == path || strings.HasPrefix(repository, path+"/")
}

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// parsePullSecret reads a secret of type dockerconfigjson or dockercfg.
func parsePullSecret(s *corev1.Secret) ([]credential, error) {
	var auths map[string]dockerAuth
	if data, ok := s.Data[corev1.DockerConfigJsonKey]; ok {
		var config struct {
			Auths map[string]dockerAuth `json:"auths"`
		}
		if err := json.Unmarshal(data, &config); err != nil {
			return nil, fmt.Errorf("%s: not valid", corev1.DockerConfigJsonKey) // never the content
		}
		auths = config.Auths
	} else if data, ok := s.Data[corev1.DockerConfigKey]; ok {
		if err := json.Unmarshal(data, &auths); err != nil {
			return nil, fmt.Errorf("%s: not valid", corev1.DockerConfigKey)
		}
	}
	var out []credential
	for server, a := range auths {
		c := credential{auth: authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}}
		c.host, c.path = splitServer(server)
		if a.Auth != "" {
			if plain, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
				if user, password, ok := strings.Cut(string(plain), ":"); ok {
					c.auth.Username, c.auth.Password = user, password
				}
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// splitServer reads the name of a server as docker writes it: with or without
// a scheme, and with the path of its old API for Docker Hub.
func splitServer(server string) (host, path string) {
	if u, err := url.Parse(server); err == nil && u.Host != "" {
		host, path = u.Host, u.Path
	} else {
		host, path, _ = strings.Cut(server, "/")
	}
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	if host == "docker.io" {
		host = "index.docker.io"
	}
	return host, path
}
