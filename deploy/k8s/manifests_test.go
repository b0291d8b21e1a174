// Package k8s holds the manifests against the rules that they must keep.
package k8s

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// overlay is what a kustomization renders, decoded.
type overlay struct {
	namespaces  []*corev1.Namespace
	deployments map[string]*appsv1.Deployment
	statefulSet map[string]*appsv1.StatefulSet
	jobs        map[string]*batchv1.Job
	budgets     map[string]*policyv1.PodDisruptionBudget
	accounts    map[string]*corev1.ServiceAccount
	services    map[string]*corev1.Service
	policies    map[string]*networkingv1.NetworkPolicy
	scalers     map[string]*autoscalingv2.HorizontalPodAutoscaler
	ingresses   map[string]*networkingv1.Ingress
	configs     map[string]*corev1.ConfigMap
	custom      []*unstructured.Unstructured // kinds of KEDA, Prometheus and NACK
}

// scheme knows the kinds of Kubernetes itself.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}()

// render builds a kustomization and decodes every object strictly: a field that no API knows is an error.
func render(t *testing.T, path string) *overlay {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
	require.NoError(t, err)
	o := &overlay{
		deployments: map[string]*appsv1.Deployment{}, statefulSet: map[string]*appsv1.StatefulSet{}, jobs: map[string]*batchv1.Job{},
		budgets: map[string]*policyv1.PodDisruptionBudget{}, accounts: map[string]*corev1.ServiceAccount{}, services: map[string]*corev1.Service{},
		policies: map[string]*networkingv1.NetworkPolicy{}, scalers: map[string]*autoscalingv2.HorizontalPodAutoscaler{},
		ingresses: map[string]*networkingv1.Ingress{}, configs: map[string]*corev1.ConfigMap{},
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for _, r := range resources.Resources() {
		raw, err := r.AsYAML()
		require.NoError(t, err)
		if group := r.GetGvk().Group; slices.Contains([]string{"keda.sh", "monitoring.coreos.com", "jetstream.nats.io"}, group) {
			content, err := r.Map()
			require.NoError(t, err)
			o.custom = append(o.custom, &unstructured.Unstructured{Object: content})
			continue
		}
		object, _, err := decoder.Decode(raw, nil, nil)
		require.NoError(t, err, "%s", raw)
		o.keep(t, object)
	}
	return o
}

func (o *overlay) keep(t *testing.T, object runtime.Object) {
	t.Helper()
	switch v := object.(type) {
	case *corev1.Namespace:
		o.namespaces = append(o.namespaces, v)
	case *appsv1.Deployment:
		o.deployments[v.Name] = v
	case *appsv1.StatefulSet:
		o.statefulSet[v.Name] = v
	case *batchv1.Job:
		o.jobs[v.Name] = v
	case *policyv1.PodDisruptionBudget:
		o.budgets[v.Name] = v
	case *corev1.ServiceAccount:
		o.accounts[v.Name] = v
	case *corev1.Service:
		o.services[v.Name] = v
	case *networkingv1.NetworkPolicy:
		o.policies[v.Name] = v
	case *autoscalingv2.HorizontalPodAutoscaler:
		o.scalers[v.Name] = v
	case *networkingv1.Ingress:
		o.ingresses[v.Name] = v
	case *corev1.ConfigMap:
		o.configs[v.Name] = v
	default:
		t.Fatalf("nothing checks objects of type %T", object)
	}
}

var services = []string{"catalog", "executor", "gateway", "limiter"}

func TestManifests(t *testing.T) {
	for _, path := range []string{"base", "overlays/dev", "overlays/prod"} {
		t.Run(path, func(t *testing.T) {
			o := render(t, path)
			require.Len(t, o.namespaces, 1)
			require.Equal(t, "restricted", o.namespaces[0].Labels["pod-security.kubernetes.io/enforce"])
			require.Len(t, o.deployments, len(services))
			for _, name := range services {
				d := o.deployments[name]
				require.NotNil(t, d, name)
				o.checkService(t, d)
			}
			job := o.jobs["migrate"]
			require.NotNil(t, job)
			require.Equal(t, []string{"migrate", "up"}, job.Spec.Template.Spec.Containers[0].Args)
			checkPod(t, "migrate", job.Spec.Template)
			for name, s := range o.statefulSet {
				checkPod(t, name, s.Spec.Template)
			}
			o.checkScaling(t, path)
			o.checkNetwork(t)
			o.checkSecrets(t)
		})
	}
}

// checkService: what each of the four must be.
func (o *overlay) checkService(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	name := d.Name
	require.Equal(t, intstr.FromInt32(0), *d.Spec.Strategy.RollingUpdate.MaxUnavailable)
	for _, label := range []string{"name", "part-of", "instance", "component", "managed-by"} {
		require.NotEmpty(t, d.Labels["app.kubernetes.io/"+label], "%s: %s", name, label)
	}
	pod := d.Spec.Template.Spec
	checkPod(t, name, d.Spec.Template)
	require.Equal(t, name, pod.ServiceAccountName)
	require.False(t, *o.accounts[name].AutomountServiceAccountToken)
	require.Len(t, pod.TopologySpreadConstraints, 2)
	for _, c := range pod.TopologySpreadConstraints {
		require.Equal(t, d.Spec.Selector.MatchLabels, c.LabelSelector.MatchLabels)
	}
	require.Equal(t, d.Spec.Selector.MatchLabels, o.budgets[name].Spec.Selector.MatchLabels)
	require.NotNil(t, o.services[name])
	c := pod.Containers[0]
	require.NotNil(t, c.ReadinessProbe)
	require.NotNil(t, c.LivenessProbe)
	require.NotNil(t, c.StartupProbe)
	require.Equal(t, "/health/ready", c.ReadinessProbe.HTTPGet.Path)
	require.Equal(t, "/health/live", c.LivenessProbe.HTTPGet.Path, "a store that is away must not restart what is well")
	require.NotNil(t, c.Lifecycle.PreStop)

	// The pod is killed when its time is over, so all that stopping may take must fit in.
	env := map[string]string{"SHUTDOWN_TIMEOUT_SECONDS": "25", "SHUTDOWN_DELAY_SECONDS": "0"}
	for _, v := range c.Env {
		env[v.Name] = v.Value
	}
	stopping := c.Lifecycle.PreStop.Sleep.Seconds + seconds(t, env["SHUTDOWN_DELAY_SECONDS"]) + seconds(t, env["SHUTDOWN_TIMEOUT_SECONDS"]) + doors
	require.LessOrEqual(t, stopping, *pod.TerminationGracePeriodSeconds, name)
	require.Equal(t, name == "catalog", env["NATS_CREATE_STREAMS"] == "true", "catalog alone makes streams")

	// The collector must work harder before the kernel ends the process.
	soft, err := resource.ParseQuantity(strings.TrimSuffix(env["GOMEMLIMIT"], "B"))
	require.NoError(t, err)
	require.Negative(t, soft.Cmp(*c.Resources.Limits.Memory()), name)
}

// doors is what a service gets to close its doors when the shutdown timeout was used up.
const doors = 10

// checkPod: Pod Security "restricted", and what it does not ask for.
func checkPod(t *testing.T, name string, template corev1.PodTemplateSpec) {
	t.Helper()
	pod := template.Spec
	require.False(t, *pod.AutomountServiceAccountToken, name)
	require.True(t, *pod.SecurityContext.RunAsNonRoot, name)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type, name)
	require.False(t, pod.HostNetwork || pod.HostPID || pod.HostIPC, name)
	require.NotEmpty(t, template.Labels["app.kubernetes.io/name"])
	require.NotEmpty(t, template.Labels["app.kubernetes.io/part-of"])
	for _, v := range pod.Volumes {
		require.Nil(t, v.HostPath, "%s: %s", name, v.Name)
	}
	for _, c := range pod.Containers {
		require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, name)
		require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, name)
		require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop, name)
		require.Empty(t, c.SecurityContext.Capabilities.Add, name)
		require.False(t, c.Resources.Requests.Cpu().IsZero(), name)
		require.False(t, c.Resources.Requests.Memory().IsZero(), name)
		require.False(t, c.Resources.Limits.Memory().IsZero(), name)
		require.NotContains(t, c.Image, ":latest")
	}
}

func (o *overlay) checkScaling(t *testing.T, path string) {
	t.Helper()
	hpa := o.scalers["gateway"]
	require.NotNil(t, hpa)
	require.Equal(t, "gateway", hpa.Spec.ScaleTargetRef.Name)
	require.Equal(t, corev1.ResourceCPU, hpa.Spec.Metrics[0].Resource.Name)
	kinds := map[string]int{}
	for _, c := range o.custom {
		kinds[c.GetKind()]++
		if c.GetKind() != "ScaledObject" {
			continue
		}
		target, _, err := unstructured.NestedString(c.Object, "spec", "scaleTargetRef", "name")
		require.NoError(t, err)
		require.Equal(t, "executor", target)
		triggers, _, err := unstructured.NestedSlice(c.Object, "spec", "triggers")
		require.NoError(t, err)
		var streams []string
		for _, trigger := range triggers {
			one := trigger.(map[string]any)
			require.Equal(t, "nats-jetstream", one["type"])
			streams = append(streams, one["metadata"].(map[string]any)["stream"].(string))
		}
		require.Len(t, streams, 8, "one for each partition")
		require.Contains(t, streams, "EXECUTIONS_7")
	}
	if path == "overlays/prod" {
		o.checkMonitoring(t)
		require.Equal(t, map[string]int{"ScaledObject": 1, "ServiceMonitor": len(services)}, kinds)
		require.GreaterOrEqual(t, *hpa.Spec.MinReplicas, int32(3))
		require.NotEmpty(t, o.ingresses["gateway"].Spec.TLS)
	}
	if path != "overlays/dev" {
		require.Nil(t, o.deployments["gateway"].Spec.Replicas, "a scaler decides")
		require.Nil(t, o.deployments["executor"].Spec.Replicas, "a scaler decides")
	}
}

// checkMonitoring: the alerts ask for series by their job, so the monitors must give it that name; and no
// policy may keep spans from the collector that the services are told of.
func (o *overlay) checkMonitoring(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "observability", "alerts.yaml"))
	require.NoError(t, err)
	job := regexp.MustCompile(`job=~"([^"]+)"`).FindSubmatch(raw)
	require.NotNil(t, job)
	for _, c := range o.custom {
		if c.GetKind() != "ServiceMonitor" {
			continue
		}
		label, _, err := unstructured.NestedString(c.Object, "spec", "jobLabel")
		require.NoError(t, err)
		require.Regexp(t, "^(?:"+string(job[1])+")$", o.services[c.GetName()].Labels[label], "%s: without jobLabel the job is the name of the Service", c.GetName())
	}
	var collector *url.URL
	for name, c := range o.configs {
		if strings.HasPrefix(name, "agentflow-") {
			collector, err = url.Parse(c.Data["OTEL_EXPORTER_OTLP_ENDPOINT"])
			require.NoError(t, err)
		}
	}
	require.NotNil(t, collector)
	port, err := strconv.Atoi(collector.Port())
	require.NoError(t, err)
	var let []string
	for _, p := range o.policies {
		for _, rule := range p.Spec.Egress {
			if len(rule.Ports) != 1 || rule.Ports[0].Port.IntValue() != port || rule.To[0].NamespaceSelector == nil {
				continue
			}
			require.Equal(t, strings.Split(collector.Hostname(), ".")[1], rule.To[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"])
			let = append(let, names(p.Spec.PodSelector)...)
		}
	}
	require.ElementsMatch(t, services, let, "services that may reach %s", collector)
}

// checkNetwork holds the policies against the arrows of the design: who may talk to whom, by the labels of pods.
func (o *overlay) checkNetwork(t *testing.T) {
	t.Helper()
	closed := o.policies["nothing"]
	require.NotNil(t, closed)
	require.Empty(t, closed.Spec.PodSelector.MatchLabels)
	require.Len(t, closed.Spec.PolicyTypes, 2)
	require.Empty(t, closed.Spec.Ingress)
	require.Empty(t, closed.Spec.Egress)
	var arrows []string
	for _, p := range o.policies {
		for _, rule := range p.Spec.Egress {
			for _, from := range names(p.Spec.PodSelector) {
				for _, to := range rule.To {
					switch {
					case to.PodSelector != nil && to.NamespaceSelector == nil:
						for _, peer := range names(*to.PodSelector) {
							arrows = append(arrows, from+" → "+peer)
						}
					case to.IPBlock != nil && to.IPBlock.CIDR == "0.0.0.0/0":
						arrows = append(arrows, from+" → outside")
						require.Contains(t, to.IPBlock.Except, "169.254.0.0/16", "the metadata service of clouds")
						require.Contains(t, to.IPBlock.Except, "10.0.0.0/8")
					}
				}
			}
		}
	}
	slices.Sort(arrows)
	require.Equal(t, []string{
		"catalog → nats", "catalog → postgres", "executor → nats", "executor → outside", "gateway → nats", "limiter → nats", "limiter → redis",
		"migrate → postgres", "nats → nats",
	}, arrows)
	for _, p := range o.policies {
		for _, rule := range p.Spec.Ingress {
			require.NotEmpty(t, rule.From, "%s: from anywhere", p.Name)
			require.NotEmpty(t, rule.Ports, "%s: to any port", p.Name)
		}
	}
}

// checkSecrets: what is secret comes from a Secret, as a file, and no Secret stands in the manifests.
func (o *overlay) checkSecrets(t *testing.T) {
	t.Helper()
	for name, c := range o.configs {
		for key := range c.Data {
			for _, word := range []string{"PASSWORD", "SECRET", "DATABASE_URL", "REDIS_URL", "API_KEY", "ADMIN_KEY"} {
				require.NotContains(t, key, word, name)
			}
		}
	}
	for name, d := range o.deployments {
		keys := d.Spec.Template.Spec.Volumes[0]
		require.Equal(t, "agentflow-"+name, keys.Secret.SecretName)
		for _, v := range d.Spec.Template.Spec.Containers[0].Env {
			for _, word := range []string{"PASSWORD", "DATABASE_URL", "REDIS_URL", "ADMIN_KEY"} {
				require.False(t, strings.HasSuffix(v.Name, word), "%s: %s comes in a file", name, v.Name)
			}
		}
	}
}

func seconds(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	return n
}

// names are the pods that a selector means; "*" for all.
func names(s metav1.LabelSelector) []string {
	if name := s.MatchLabels["app.kubernetes.io/name"]; name != "" {
		return []string{name}
	}
	for _, e := range s.MatchExpressions {
		if e.Key == "app.kubernetes.io/name" {
			return e.Values
		}
	}
	return []string{"*"}
}

// TestNATSConfig: the cluster of the dev overlay runs the same server configuration as everything else.
func TestNATSConfig(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("..", "nats", "nats.conf"))
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join("overlays", "dev", "nats.conf"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "copy deploy/nats/nats.conf to deploy/k8s/overlays/dev: kustomize reads nothing above its folder")
}

// TestNATSValues: what the Helm chart of NATS makes of the values must start, and its servers must find each other.
func TestNATSValues(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("overlays", "prod", "nats-values.yaml"))
	require.NoError(t, err)
	type container struct {
		Merge corev1.Container `json:"merge"`
	}
	type tls struct {
		Enabled    bool   `json:"enabled"`
		SecretName string `json:"secretName"`
		Key        string `json:"key"`
	}
	var values struct {
		CA     tls `json:"tlsCA"`
		Config struct {
			Cluster struct {
				TLS tls `json:"tls"`
			} `json:"cluster"`
		} `json:"config"`
		Container container `json:"container"`
		Reloader  container `json:"reloader"`
	}
	require.NoError(t, yaml.Unmarshal(raw, &values))
	require.True(t, values.Config.Cluster.TLS.Enabled)
	require.Equal(t, tls{Enabled: true, SecretName: values.Config.Cluster.TLS.SecretName, Key: "ca.pem"}, values.CA,
		"routes check each other's certificates, which no authority of the system has signed")
	for name, c := range map[string]container{"nats": values.Container, "reloader": values.Reloader} { // the chart's containers
		require.NotNil(t, c.Merge.SecurityContext, `Pod Security "restricted" refuses the pod for its container %s`, name)
		require.False(t, *c.Merge.SecurityContext.AllowPrivilegeEscalation, name)
		require.Equal(t, []corev1.Capability{"ALL"}, c.Merge.SecurityContext.Capabilities.Drop, name)
	}
}
