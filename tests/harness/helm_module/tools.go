//go:build tools

// Package tools names the program whose module, and all that it needs, go.mod and go.sum pin.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
