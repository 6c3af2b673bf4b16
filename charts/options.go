package charts

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Options say what a bundle is called, where it belongs, and what its workflows need.
type Options struct {
	Name        string            // in front of the names of ConfigMaps: small letters, digits and -, at most 40
	Namespace   string            // "" leaves it to who applies the ConfigMaps
	Labels      map[string]string // more labels for each ConfigMap
	Lock        *models.Lock      // nil: no models.lock is bundled
	Definitions []Definition      // of node classes; those that a workflow uses are bundled
}

var (
	bundleName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	// dnsLabel is RFC 1123's, as Kubernetes takes it in names of namespaces.
	dnsLabel   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	dnsName    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	labelValue = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
)

// check says what of the options Kubernetes would refuse.
func (o Options) check() error {
	var wrong []error
	if !bundleName.MatchString(o.Name) {
		wrong = append(wrong, fmt.Errorf("name of bundle %q: allowed are 1 to 40 small letters, digits and -, a letter or digit first and last", o.Name))
	}
	if o.Namespace != "" && !dnsLabel.MatchString(o.Namespace) {
		wrong = append(wrong, fmt.Errorf("namespace %q: allowed are 1 to 63 small letters, digits and -, a letter or digit first and last", o.Namespace))
	}
	for _, key := range slices.Sorted(maps.Keys(o.Labels)) {
		wrong = append(wrong, checkLabel(key, o.Labels[key]))
	}
	return errors.Join(wrong...)
}

func checkLabel(key, value string) error {
	prefix, name, prefixed := strings.Cut(key, "/")
	if !prefixed {
		prefix, name = "", key
	}
	switch {
	case prefix == "app.kubernetes.io" || prefix == Domain:
		return fmt.Errorf("label %q: labels of %s are those that the bundle sets", key, prefix)
	case !labelValue.MatchString(name) || prefixed && (len(prefix) > 253 || !dnsName.MatchString(prefix)):
		return fmt.Errorf("label %q: a label is [DOMAIN/]NAME, NAME 1 to 63 letters, digits, points, hyphens and underscores, a letter or digit first and last", key)
	case value != "" && !labelValue.MatchString(value):
		return fmt.Errorf("label %s: value %q: allowed are at most 63 letters, digits, points, hyphens and underscores, a letter or digit first and last", key, value)
	}
	return nil
}
