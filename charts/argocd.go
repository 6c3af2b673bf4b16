package charts

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// checkRepo says what Argo CD misses to find bundle and chart.
func (t Targets) checkRepo() error {
	if t.Repo == "" || t.Path == "" {
		return errors.New("an Application needs the URL of the repository that it follows (--repo), and the bundle's path in it (--repo-path)")
	}
	if outside(path.Clean(t.Path)) || path.Clean(t.Path) == "." && t.To(ToApplicationSet) && len(t.Environments) == 0 {
		return fmt.Errorf("path of the bundle in the repository %q: it is that of a folder inside, without / in front", t.Path)
	}
	if strings.Contains(t.Chart, "://") {
		return fmt.Errorf("an Application takes the chart from the repository that it follows, not from %s", t.Chart)
	}
	return nil
}

// checkChart says whether the chart, as seen from the bundle's folder, is in the repository that Argo CD follows.
func (t Targets) checkChart() error {
	if chart := path.Join(t.Path, t.Chart); t.To(ToArgoCD, ToApplicationSet) && outside(chart) {
		return fmt.Errorf("the chart is %s seen from the bundle, and outside of the repository in which the bundle is %s", t.Chart, t.Path)
	}
	return nil
}

func outside(clean string) bool {
	return path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../")
}

// environmentName leaves room for the bundle's name in front: an Application's name is a release's, too.
var environmentName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)

func (t Targets) checkEnvironments() error {
	if len(t.Environments)+len(t.Manual) > 0 && !t.To(ToApplicationSet) {
		return fmt.Errorf("environments are those of an ApplicationSet: add the target %s", ToApplicationSet)
	}
	var names []string
	for _, e := range t.Environments {
		name, namespace, given := strings.Cut(e, "=")
		if !environmentName.MatchString(name) || given && !dnsLabel.MatchString(namespace) {
			return fmt.Errorf("environment %q: it is NAME or NAME=NAMESPACE, small letters, digits and -, NAME at most 20", e)
		}
		if slices.Contains(names, name) {
			return fmt.Errorf("environment %q is named twice", name)
		}
		names = append(names, name)
	}
	for _, name := range t.Manual {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no environment %q to sync by hand; environments are %q", name, names)
		}
	}
	return nil
}

// place is where an Application's bundle is and where it goes. Within an ApplicationSet its texts are templates.
type place struct {
	folder    string // of the bundle, in the repository
	release   string
	namespace string
	values    []any // files of values of the chart, before those of the bundle
}

// application is an Argo CD Application of the ConfigMaps and the chart.
func (b *Bundle) application(t Targets) object {
	spec := t.applicationSpec(place{folder: t.Path, release: b.Name, namespace: b.Namespace}, true)
	return object{
		{"apiVersion", "argoproj.io/v1alpha1"}, {"kind", "Application"},
		{"metadata", object{{"name", b.Name}, {"namespace", "argocd"}}}, {"spec", spec},
	}
}

// applicationSpec has the ConfigMaps and the chart as sources. ConfigMaps that are no longer named go last, when the pods that
// mounted them are gone. How many pods there are is left to what scales them.
func (t Targets) applicationSpec(p place, automated bool) object {
	source := func(more ...member) object {
		return append(object{{"repoURL", t.Repo}, {"targetRevision", t.Revision}}, more...)
	}
	destination := object{{"server", "https://kubernetes.default.svc"}}
	if p.namespace != "" {
		destination = append(destination, member{"namespace", p.namespace})
	}
	sync := object{}
	if automated {
		sync = append(sync, member{"automated", object{{"prune", true}, {"selfHeal", true}}})
	}
	sync = append(sync,
		member{"syncOptions", list{"CreateNamespace=true", "ServerSideApply=true", "PruneLast=true", "RespectIgnoreDifferences=true"}},
		member{"retry", object{{"limit", 5}, {"backoff", object{{"duration", "10s"}, {"factor", 2}, {"maxDuration", "5m"}}}}})
	return object{
		{"project", "default"},
		{"destination", destination},
		{"sources", list{
			source(member{"path", path.Join(p.folder, MapsDir)}),
			source(member{"ref", "bundle"}),
			source(member{"path", path.Join(t.Path, t.Chart)}, member{"helm", object{
				{"releaseName", p.release},
				{"valueFiles", append(slices.Clone(list(p.values)), "$bundle/"+path.Join(p.folder, "values.yaml"))},
			}}),
		}},
		{"ignoreDifferences", list{object{{"group", "apps"}, {"kind", "Deployment"}, {"jsonPointers", list{"/spec/replicas"}}}}},
		{"syncPolicy", sync},
	}
}

// applicationSet is an Argo CD ApplicationSet: of this bundle in each of the environments, or, without environments, of each
// bundle in the folder that this one is in. Those it finds by their records, so that a new folder is a new Application.
func (b *Bundle) applicationSet(t Targets) object {
	if len(t.Environments) > 0 {
		return b.environmentSet(t)
	}
	folder := path.Dir(path.Clean(t.Path))
	files := list{object{{"path", path.Join(folder, "*", RecordFile)}}}
	generator := object{{"git", object{{"repoURL", t.Repo}, {"revision", t.Revision}, {"files", files}}}}
	spec := t.applicationSpec(place{
		folder: "{{ .path.path }}", release: "{{ .name }}", namespace: `{{ index . "namespace" | default .name }}`,
	}, true)
	name := strings.TrimSuffix("comfyrun-"+slug(path.Base(folder)), "-")
	return setOf(name, generator, object{{"metadata", object{{"name", "{{ .name }}"}}}, {"spec", spec}})
}

// environmentSet has an Application for each environment, of which some may be synced by people.
func (b *Bundle) environmentSet(t Targets) object {
	elements := list{}
	for _, e := range t.Environments {
		name, namespace, given := strings.Cut(e, "=")
		if !given {
			namespace = b.Name + "-" + name
		}
		element := object{{"environment", name}, {"namespace", namespace}}
		if len(t.Manual) > 0 {
			element = append(element, member{"automated", fmt.Sprint(!slices.Contains(t.Manual, name))})
		}
		elements = append(elements, element)
	}
	spec := t.applicationSpec(place{
		folder: t.Path, release: b.Name, namespace: "{{ .namespace }}", values: []any{"values-{{ .environment }}.yaml"},
	}, len(t.Manual) == 0)
	template := object{{"metadata", object{{"name", b.Name + "-{{ .environment }}"}}}, {"spec", spec}}
	set := setOf(b.Name, object{{"list", object{{"elements", elements}}}}, template)
	if len(t.Manual) > 0 {
		patch := "{{- if eq .automated \"true\" }}\nspec:\n  syncPolicy:\n    automated:\n      prune: true\n      selfHeal: true\n{{- end }}\n"
		set[3].value = append(set[3].value.(object), member{"templatePatch", patch})
	}
	return set
}

func setOf(name string, generator, template object) object {
	return object{
		{"apiVersion", "argoproj.io/v1alpha1"}, {"kind", "ApplicationSet"},
		{"metadata", object{{"name", name}, {"namespace", "argocd"}}},
		{"spec", object{
			{"goTemplate", true}, {"goTemplateOptions", list{"missingkey=error"}},
			{"generators", list{generator}}, {"template", template},
		}},
	}
}
