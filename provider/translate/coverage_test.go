package translate

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const fieldsPage = "../../docs/fields.md"

// verdict is a line of the page about fields.
type verdict struct{ what, why string }

// readFields reads the page: verdicts by type and field.
func readFields(t *testing.T) map[string]map[string]verdict {
	t.Helper()
	data, err := os.ReadFile(fieldsPage)
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]map[string]verdict{}
	section := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = name
			page[section] = map[string]verdict{}
		}
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | ")
		if section == "" || !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		what, why, _ := strings.Cut(strings.TrimSuffix(rest, "|"), " |")
		if _, twice := page[section][name]; twice {
			t.Errorf("%s.%s is on the page twice", section, name)
		}
		page[section][name] = verdict{strings.TrimSpace(what), strings.TrimSpace(why)}
	}
	return page
}

// fieldsOf returns the fields of a struct by their names in a manifest. What
// other structs bring in counts, but for what an ephemeral container has in
// common with others.
func fieldsOf(s reflect.Type) map[string]reflect.StructField {
	all := map[string]reflect.StructField{}
	for i := range s.NumField() {
		f := s.Field(i)
		switch name, _, _ := strings.Cut(f.Tag.Get("json"), ","); {
		case name != "":
			all[name] = f
		case f.Type == reflect.TypeFor[corev1.EphemeralContainerCommon]():
		case f.Anonymous:
			for name, inner := range fieldsOf(f.Type) {
				all[name] = inner
			}
		}
	}
	return all
}

// element is what a field is made of, if that is one of the API's own structs.
func element(f reflect.Type) (reflect.Type, bool) {
	for f.Kind() == reflect.Pointer || f.Kind() == reflect.Slice || f.Kind() == reflect.Map {
		f = f.Elem()
	}
	return f, f.Kind() == reflect.Struct && strings.HasSuffix(f.PkgPath(), "k8s.io/api/core/v1")
}

// TestEveryFieldIsDecided: there is no field of a pod that nobody thought of.
// What is honoured is looked into further.
func TestEveryFieldIsDecided(t *testing.T) {
	page := readFields(t)
	seen := map[string]bool{}
	var walk func(s reflect.Type)
	walk = func(s reflect.Type) {
		if seen[s.Name()] {
			return
		}
		seen[s.Name()] = true
		fields := fieldsOf(s)
		for name, f := range fields {
			v, ok := page[s.Name()][name]
			if !ok {
				t.Errorf("%s.%s is not on %s: decide what becomes of it", s.Name(), name, fieldsPage)
				continue
			}
			switch v.what {
			case "honoured":
				if e, ok := element(f.Type); ok {
					walk(e)
				}
			case "refused", "no effect":
				if v.why == "" {
					t.Errorf("%s.%s is %s: the page does not say why", s.Name(), name, v.what)
				}
			case "not ours":
			default:
				t.Errorf("%s.%s: %q is no verdict", s.Name(), name, v.what)
			}
		}
		for name := range page[s.Name()] {
			if _, ok := fields[name]; !ok {
				t.Errorf("the API has no %s.%s: take it off %s", s.Name(), name, fieldsPage)
			}
		}
	}
	walk(reflect.TypeFor[corev1.PodSpec]())
	for section := range page {
		if !seen[section] {
			t.Errorf("no honoured field of a pod leads to %s: take it off %s", section, fieldsPage)
		}
	}
}

// places gives a pod one of each struct that has refused fields.
var places = map[string]func(p *corev1.Pod) any{
	"PodSpec": func(p *corev1.Pod) any { return &p.Spec },
	"PodSecurityContext": func(p *corev1.Pod) any {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{}
		return p.Spec.SecurityContext
	},
	"Container": func(p *corev1.Pod) any { return &p.Spec.Containers[0] },
	"SecurityContext": func(p *corev1.Pod) any {
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{}
		return p.Spec.Containers[0].SecurityContext
	},
	"ContainerPort": func(p *corev1.Pod) any {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
		return &p.Spec.Containers[0].Ports[0]
	},
	"ResourceRequirements": func(p *corev1.Pod) any { return &p.Spec.Containers[0].Resources },
	"EnvVarSource": func(p *corev1.Pod) any {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{}}}
		return p.Spec.Containers[0].Env[0].ValueFrom
	},
	"LifecycleHandler": func(p *corev1.Pod) any {
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
		return p.Spec.Containers[0].Lifecycle.PostStart
	},
	"VolumeMount": func(p *corev1.Pod) any {
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		return &p.Spec.Containers[0].VolumeMounts[0]
	},
	"Volume": func(p *corev1.Pod) any { return volume(p, corev1.VolumeSource{}) },
	"EmptyDirVolumeSource": func(p *corev1.Pod) any {
		return volume(p, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}).EmptyDir
	},
	"SecretVolumeSource": func(p *corev1.Pod) any {
		return volume(p, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}).Secret
	},
	"ConfigMapVolumeSource": func(p *corev1.Pod) any {
		return volume(p, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}).ConfigMap
	},
	"KeyToPath": func(p *corev1.Pod) any {
		v := volume(p, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{Items: []corev1.KeyToPath{{Key: "a", Path: "a"}}}})
		return &v.ConfigMap.Items[0]
	},
	"DownwardAPIVolumeSource": func(p *corev1.Pod) any {
		return volume(p, corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{}}).DownwardAPI
	},
	"DownwardAPIVolumeFile": func(p *corev1.Pod) any {
		v := volume(p, corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "a"}}}})
		return &v.DownwardAPI.Items[0]
	},
	"ProjectedVolumeSource": func(p *corev1.Pod) any {
		v := projectedOf(p)
		v.Sources[0].ServiceAccountToken = &corev1.ServiceAccountTokenProjection{Path: "token"}
		return v
	},
	"VolumeProjection": func(p *corev1.Pod) any { return &projectedOf(p).Sources[0] },
	"ServiceAccountTokenProjection": func(p *corev1.Pod) any {
		s := &projectedOf(p).Sources[0]
		s.ServiceAccountToken = &corev1.ServiceAccountTokenProjection{Path: "token"}
		return s.ServiceAccountToken
	},
}

func volume(p *corev1.Pod, s corev1.VolumeSource) *corev1.Volume {
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: s}}
	return &p.Spec.Volumes[0]
}

func projectedOf(p *corev1.Pod) *corev1.ProjectedVolumeSource {
	v := volume(p, corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{}}}})
	return v.Projected
}

// fill makes a value other than its zero, some levels deep.
func fill(v reflect.Value, levels int) {
	if levels == 0 {
		return
	}
	levels--
	switch v.Interface().(type) {
	case resource.Quantity:
		v.Set(reflect.ValueOf(resource.MustParse("1")))
		return
	case intstr.IntOrString:
		v.Set(reflect.ValueOf(intstr.FromInt32(80)))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.String:
		v.SetString("x")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), levels)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), levels)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, levels)
		fill(value, levels)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), levels)
			}
		}
	default:
		panic(fmt.Sprintf("cannot fill a %s", v.Type()))
	}
}

// TestRefusedFieldsAreRefused sets each field that the page calls refused, and
// nothing else.
func TestRefusedFieldsAreRefused(t *testing.T) {
	for section, fields := range readFields(t) {
		for name, v := range fields {
			if v.what != "refused" {
				continue
			}
			place := places[section]
			if place == nil {
				t.Errorf("%s.%s: the test has no place for it", section, name)
				continue
			}
			p := pod()
			target := reflect.ValueOf(place(p)).Elem()
			if section != "Volume" && section != "VolumeProjection" && section != "EnvVarSource" {
				if r := Admit(p, node()); r != nil {
					t.Errorf("a pod with a %s is refused without %s: %s", section, name, r.Message)
				}
			}
			fill(target.FieldByName(fieldsOf(target.Type())[name].Name), 4)
			if r := Admit(p, node()); r == nil {
				t.Errorf("%s.%s: the page says that it is refused, and it is not", section, name)
			}
		}
	}
}
