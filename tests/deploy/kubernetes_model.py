"""The fields of Kubernetes' objects that our manifest uses, typed; unknown ones are refused.

A field that is spelled wrong is ignored by the API server unless asked otherwise: here it is an
error. Source: Kubernetes API reference v1.29 (core/v1, apps/v1, policy/v1).
"""

from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)]
Positive = Annotated[int, Meta(ge=1)]
Quantity = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$")]


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """The base: what is not listed is refused."""


class Metadata(Strict):
    name: Name | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class LabelSelector(Strict):
    matchLabels: dict[str, str]  # noqa: N815


class ServicePort(Strict):
    name: Name
    port: Port
    targetPort: str | Port  # noqa: N815
    protocol: Literal["TCP", "UDP"] = "TCP"


class ServiceSpec(Strict):
    selector: dict[str, str]
    ports: list[ServicePort]
    clusterIP: Literal["None"] | None = None  # noqa: N815
    publishNotReadyAddresses: bool = False  # noqa: N815


class Service(Strict, tag_field="kind", tag="Service"):
    apiVersion: Literal["v1"]  # noqa: N815
    metadata: Metadata
    spec: ServiceSpec


class DisruptionSpec(Strict):
    selector: LabelSelector
    maxUnavailable: int | str | None = None  # noqa: N815
    minAvailable: int | str | None = None  # noqa: N815


class PodDisruptionBudget(Strict, tag_field="kind", tag="PodDisruptionBudget"):
    apiVersion: Literal["policy/v1"]  # noqa: N815
    metadata: Metadata
    spec: DisruptionSpec


class HttpGet(Strict):
    path: Annotated[str, Meta(pattern=r"^/")]
    port: str | Port


class Exec(Strict):
    command: Annotated[list[str], Meta(min_length=1)]


class Probe(Strict):
    httpGet: HttpGet | None = None  # noqa: N815
    exec: Exec | None = None
    initialDelaySeconds: int = 0  # noqa: N815
    periodSeconds: Positive = 10  # noqa: N815
    timeoutSeconds: Positive = 1  # noqa: N815
    failureThreshold: Positive = 3  # noqa: N815


class Handler(Strict):
    exec: Exec | None = None
    httpGet: HttpGet | None = None  # noqa: N815


class Lifecycle(Strict):
    preStop: Handler | None = None  # noqa: N815


class FieldRef(Strict):
    fieldPath: Literal["metadata.name", "metadata.namespace", "status.podIP"]  # noqa: N815


class ValueFrom(Strict):
    fieldRef: FieldRef  # noqa: N815


class EnvironmentVariable(Strict):
    name: Annotated[str, Meta(pattern=r"^[A-Z_][A-Z0-9_]*$")]
    value: str | None = None
    valueFrom: ValueFrom | None = None  # noqa: N815


class ContainerPort(Strict):
    name: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,15}$")]
    containerPort: Port  # noqa: N815
    protocol: Literal["TCP", "UDP"] = "TCP"


class Capabilities(Strict):
    drop: list[str] = []
    add: list[str] = []


class ContainerSecurity(Strict):
    allowPrivilegeEscalation: bool  # noqa: N815
    readOnlyRootFilesystem: bool  # noqa: N815
    capabilities: Capabilities


class Resources(Strict):
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class VolumeMount(Strict):
    name: Name
    mountPath: Annotated[str, Meta(pattern=r"^/")]  # noqa: N815
    readOnly: bool = False  # noqa: N815


class Container(Strict):
    name: Name
    image: str
    resources: Resources
    securityContext: ContainerSecurity  # noqa: N815
    command: list[str] = []
    args: list[str] = []
    env: list[EnvironmentVariable] = []
    ports: list[ContainerPort] = []
    startupProbe: Probe | None = None  # noqa: N815
    livenessProbe: Probe | None = None  # noqa: N815
    readinessProbe: Probe | None = None  # noqa: N815
    lifecycle: Lifecycle | None = None
    volumeMounts: list[VolumeMount] = []  # noqa: N815


class SeccompProfile(Strict):
    type: Literal["RuntimeDefault", "Unconfined", "Localhost"]


class PodSecurity(Strict):
    runAsNonRoot: bool  # noqa: N815
    runAsUser: int  # noqa: N815
    runAsGroup: int  # noqa: N815
    fsGroup: int  # noqa: N815
    seccompProfile: SeccompProfile  # noqa: N815


class PodAffinityTerm(Strict):
    topologyKey: str  # noqa: N815
    labelSelector: LabelSelector  # noqa: N815


class WeightedTerm(Strict):
    weight: Annotated[int, Meta(ge=1, le=100)]
    podAffinityTerm: PodAffinityTerm  # noqa: N815


class PodAntiAffinity(Strict):
    preferredDuringSchedulingIgnoredDuringExecution: list[WeightedTerm]  # noqa: N815


class Affinity(Strict):
    podAntiAffinity: PodAntiAffinity  # noqa: N815


class SecretSource(Strict):
    secretName: Name  # noqa: N815
    defaultMode: int  # noqa: N815


class EmptyDirectory(Strict):
    medium: Literal["", "Memory"] = ""
    sizeLimit: Quantity | None = None  # noqa: N815


class Volume(Strict):
    name: Name
    secret: SecretSource | None = None
    emptyDir: EmptyDirectory | None = None  # noqa: N815


class PodSpec(Strict):
    containers: Annotated[list[Container], Meta(min_length=1)]
    terminationGracePeriodSeconds: Positive  # noqa: N815
    automountServiceAccountToken: bool  # noqa: N815
    securityContext: PodSecurity  # noqa: N815
    affinity: Affinity
    initContainers: list[Container] = []  # noqa: N815
    volumes: list[Volume] = []


class PodTemplate(Strict):
    metadata: Metadata
    spec: PodSpec


class ClaimSpec(Strict):
    accessModes: list[Literal["ReadWriteOnce", "ReadWriteOncePod"]]  # noqa: N815
    resources: Resources


class VolumeClaim(Strict):
    metadata: Metadata
    spec: ClaimSpec


class StatefulSetSpec(Strict):
    serviceName: Name  # noqa: N815
    replicas: Positive
    selector: LabelSelector
    template: PodTemplate
    volumeClaimTemplates: list[VolumeClaim]  # noqa: N815
    podManagementPolicy: Literal["OrderedReady", "Parallel"] = "OrderedReady"  # noqa: N815


class StatefulSet(Strict, tag_field="kind", tag="StatefulSet"):
    apiVersion: Literal["apps/v1"]  # noqa: N815
    metadata: Metadata
    spec: StatefulSetSpec


KubernetesObject = Service | PodDisruptionBudget | StatefulSet


def load(text: str) -> list[KubernetesObject]:
    """Read a manifest. Raises msgspec.ValidationError naming the place of what is wrong."""
    documents: list[Any] = list(yaml.safe_load_all(text))
    return [msgspec.convert(document, KubernetesObject) for document in documents]
