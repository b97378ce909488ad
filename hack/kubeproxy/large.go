package kubeproxy

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Large returns a cluster of n plain Services with some endpoints each, on five
// nodes, as the cluster's own controllers write them: with all that nobody here
// reads.
func Large(n, endpoints int) Objects {
	var o Objects
	port, name, proto, yes, no := int32(8080), "http", corev1.ProtocolTCP, true, false
	fields := []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "discovery.k8s.io/v1", FieldsType: "FieldsV1",
		FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{".":{},"f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:labels":{".":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}}},"f:ports":{}}`)}}}
	for i := range n {
		service := fmt.Sprintf("web-%d", i)
		ip := fmt.Sprintf("10.%d.%d.%d", 96+i>>16, i>>8&255, i&255)
		policy := corev1.ServiceInternalTrafficPolicyCluster
		single := corev1.IPFamilyPolicySingleStack
		o.Services = append(o.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: service, UID: types.UID(fmt.Sprintf("6b1f8a52-0000-4000-8000-%012d", i)), CreationTimestamp: metav1.Unix(1700000000, 0),
				Labels: map[string]string{"app": service, "app.kubernetes.io/managed-by": "Helm"}, ManagedFields: fields},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single,
				InternalTrafficPolicy: &policy, SessionAffinity: corev1.ServiceAffinityNone, Selector: map[string]string{"app": service},
				Ports: []corev1.ServicePort{{Name: name, Port: 80, Protocol: proto}}},
		})
		s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &proto}},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: service + "-x7k2p", GenerateName: service + "-", UID: types.UID(fmt.Sprintf("7c1f8a52-0000-4000-8000-%012d", i)), CreationTimestamp: metav1.Unix(1700000000, 0),
				Labels:          map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io", "app": service},
				Annotations:     map[string]string{corev1.EndpointsLastChangeTriggerTime: "2023-11-14T22:13:20Z"},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: service, UID: types.UID(fmt.Sprintf("6b1f8a52-0000-4000-8000-%012d", i)), Controller: &yes, BlockOwnerDeletion: &yes}},
				ManagedFields:   fields}}
		for j := range endpoints {
			node, zone := fmt.Sprintf("n%d", 1+j%5), fmt.Sprintf("z%d", 1+j%3)
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", 1+j%5+5*(i>>8&31), 1+i%250)}, NodeName: &node, Zone: &zone,
				Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
				TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("%s-5d9c7b8f6-%05d", service, j), UID: types.UID(fmt.Sprintf("8d1f8a52-%04d-4000-8000-%012d", j, i))}})
		}
		o.Slices = append(o.Slices, s)
	}
	return o
}

// Moved returns a slice whose last endpoint is another pod.
func Moved(s *discoveryv1.EndpointSlice, number int) *discoveryv1.EndpointSlice {
	out := s.DeepCopy()
	out.Endpoints[len(out.Endpoints)-1].Addresses = []string{fmt.Sprintf("10.244.200.%d", 1+number%250)}
	return out
}

// Given returns what the last sync gave to the kernel: bytes and commands of
// nft. It is for a proxier with a fake.
func (x *Proxier) Given() (bytes, commands int) {
	tx := x.fake.LastTransaction
	return len(tx.String()), tx.NumOperations()
}
