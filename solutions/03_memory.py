import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="03 · The memory layer, solved",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import marimo as mo

    from helpers import notebook as nb
    from helpers.labs.lab03_memory import draw
    from helpers.labs.lab03_memory.learner_input import collection_of, text_of
    from helpers.labs.lab03_memory.sizing import Collection
    from helpers.settings import home_dir
    from helpers.stack import memory
    from helpers.stack.embeddings import embedder


@app.cell(hide_code=True)
def title():
    mo.md(r"""
    # 03 · The memory layer

    A model answers from what it was trained on; what your organisation knows must be fetched for it. That is the work
    of a vector database: passages go in as vectors, and the passages nearest to a question come out. It is the first
    part of the stack that **holds state**, and state can be lost in ways that a process cannot.

    You will give Qdrant a volume and a name, fill it, find out what its health checks do not tell you, kill it, lose
    its disk, and get everything back.

    *90 minutes. The cluster's state is graded: the buttons here, and `kubectl` or `helm` in the page's
    terminal (`Ctrl`+`` ` ``), count the same.*
    """)
    return


@app.cell(hide_code=True)
def bar(PARTS, lab):
    lab.live(nb.bar, PARTS)
    return


@app.cell(hide_code=True)
def cluster_card(cluster_answers, lab, reconnect):
    nb.connection_card(lab, reconnect, cluster_answers)
    return


@app.cell(hide_code=True)
def place_panel(lab, place):
    mo.vstack(
        [
            mo.md(
                "Lab 01 leaves two namespaces. If they or the images are missing, this button brings them; what is there stays as it is."
            ),
            nb.start_panel(lab, place),
        ]
    )
    return


@app.cell(hide_code=True)
def layer_picture():
    nb.layer_picture(focus="memory")
    return


@app.cell(hide_code=True)
def guess_loss():
    guess_loss = nb.predict(
        "Qdrant runs in a Deployment with an `emptyDir`, and holds a million vectors. Its container crashes "
        "(out of memory) and is restarted in the same pod. An hour later the node is drained. What is left?",
        {
            "all": "Everything, both times: the Deployment brings the pod back",
            "crash": "After the crash everything, after the drain nothing",
            "none": "Nothing, even after the crash: a container starts from its image",
        },
    )
    guess_loss
    return (guess_loss,)


@app.cell(hide_code=True)
def guess_loss_answer(guess_loss):
    nb.reveal(
        guess_loss.value,
        truth="crash",
        because="An `emptyDir` belongs to the **pod**. A container that restarts in its pod finds it again, so "
        "demos do not show the mistake; a pod that is replaced starts with an empty one.",
        instead={
            "all": "A Deployment brings back the *process*, but not the old pod's directory.",
            "none": "That holds for the container's own file system, not for a volume of the pod.",
        },
    )
    return


@app.cell(hide_code=True)
def how_much_will_it_hold():
    mo.md(r"""
    ## 1 · How much will it hold?

    A claim that is too small will one day block writes; one that is far too large costs money every day. Count what
    takes room: vectors (4 bytes for each dimension), the search graph, the payload, the log, segments that are
    rewritten while the old ones are still there, and **every snapshot you keep on it**.

    **Your turn.** Two million passages of 384 dimensions with half a kilobyte of payload each, and two snapshots. This plan
    assumes that they are kept on the same volume. Change the claim until the plan fits. Then find out what *one more*
    snapshot would cost, and what a model with 1024 dimensions would cost.

    *Where do the snapshots of this lab lie?* Not on the claim: the manifest of part 2 has an `emptyDir` for them, as the
    chart has by default. They fill the node's own disk, and are lost with the pod. The picture shows both ways.
    """)
    return


@app.cell
def plan():
    plan = Collection(vectors=2_000_000, dimensions=384, payload_bytes=512, snapshots=2)
    claim = "16Gi"
    return claim, plan


@app.cell(hide_code=True)
def why_plan():
    mo.md(r"""
    **Why so.** Vectors 2.9 GiB, graph 0.2, payload 1.0: 4.1 GiB are stored. Two snapshots add 8.1, rewriting 2.0: 14.2 GiB with the log. A third
    snapshot would cost 4.1 GiB, and a model of 1024 dimensions makes the stored part 8.8 GiB.
    """)
    return


@app.cell(hide_code=True)
def sizing_picture(claim, plan):
    draw.sizing_picture(plan, claim)
    return


@app.cell(hide_code=True)
def hints_plan(claim, plan):
    nb.hints(
        "Read the bars: which part is the largest, and what does it grow with?",
        "`datatype='float16'` halves the vectors, `uint8` quarters them; both cost some precision.",
        "`on_disk=True` keeps vectors on the volume: it saves memory, not disk.",
        yours=draw.plan_in_words(plan, claim),
    )
    return


@app.cell(hide_code=True)
def a_pod_with_a_name_and():
    mo.md(r"""
    ## 2 · A pod with a name and a volume

    A **StatefulSet** gives its pod three things that outlive it: the name `qdrant-0`, the claim
    `qdrant-storage-qdrant-0`, and a DNS name under a **headless Service**. You write them once yourself, with the names
    and labels of Qdrant's official chart; further down, Helm writes them for you, and the same checks count. On the
    embedded cluster the image is *Qdrant's engine, embedded server*; the button at the top of the page, or `course start 03`, brings it in.

    **Your turn.** A colleague wrote the manifest below, and it would even start. Three things in it are wrong:

    1. Where does Qdrant write, and what kind of volume is there?
    2. `serviceName` names a Service that does not exist. It must be headless, select the pod, and have the label
       `app.kubernetes.io/component: cluster-discovery`: Prometheus will find it by that label in part 7.
    3. The readiness probe asks a path that answers 200 as soon as the process listens.
    """)
    return


@app.cell
def memory_yaml():
    memory_yaml = """
    apiVersion: v1
    kind: Service
    metadata:
      name: qdrant
      namespace: llm-system
      labels: {app: qdrant, app.kubernetes.io/name: qdrant, app.kubernetes.io/instance: qdrant}
    spec:
      selector: {app.kubernetes.io/name: qdrant, app.kubernetes.io/instance: qdrant}
      ports:
      - {name: http, port: 6333, targetPort: http}
    ---
    apiVersion: v1
    kind: Service
    metadata:
      name: qdrant-headless
      namespace: llm-system
      labels:
        app: qdrant
        app.kubernetes.io/name: qdrant
        app.kubernetes.io/instance: qdrant
        app.kubernetes.io/component: cluster-discovery
    spec:
      clusterIP: None
      publishNotReadyAddresses: true
      selector: {app.kubernetes.io/name: qdrant, app.kubernetes.io/instance: qdrant}
      ports:
      - {name: http, port: 6333, targetPort: http}
    ---
    apiVersion: apps/v1
    kind: StatefulSet
    metadata:
      name: qdrant
      namespace: llm-system
      labels: {app: qdrant, app.kubernetes.io/name: qdrant, app.kubernetes.io/instance: qdrant}
    spec:
      replicas: 1
      serviceName: qdrant-headless
      selector:
        matchLabels: {app: qdrant, app.kubernetes.io/name: qdrant, app.kubernetes.io/instance: qdrant}
      template:
        metadata:
          labels: {app: qdrant, app.kubernetes.io/name: qdrant, app.kubernetes.io/instance: qdrant}
        spec:
          enableServiceLinks: false
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 15
          securityContext:
            {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000, seccompProfile: {type: RuntimeDefault}}
          containers:
          - name: qdrant
            image: $QDRANT
            env:
            - {name: QDRANT__CLUSTER__ENABLED, value: "false"}
            - {name: QDRANT_INIT_FILE_PATH, value: /qdrant/init/.qdrant-initialized}
            ports:
            - {name: http, containerPort: 6333}
            startupProbe:
              httpGet: {path: /livez, port: http}
              periodSeconds: 1
              failureThreshold: 600
            readinessProbe:
              httpGet: {path: /readyz, port: http}
              periodSeconds: 1
            livenessProbe:
              httpGet: {path: /livez, port: http}
              periodSeconds: 10
              failureThreshold: 6
            resources:
              requests: {cpu: 100m, memory: 256Mi}
              limits: {cpu: "1", memory: 1Gi}
            securityContext:
              {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
            volumeMounts:
            - {name: qdrant-storage, mountPath: /qdrant/storage}
            - {name: qdrant-snapshots, mountPath: /qdrant/snapshots}
            - {name: qdrant-init, mountPath: /qdrant/init}
          volumes:
          - {name: qdrant-snapshots, emptyDir: {}}
          - {name: qdrant-init, emptyDir: {}}
      volumeClaimTemplates:
      - metadata:
          name: qdrant-storage
          labels: {app: qdrant}
        spec:
          accessModes: [ReadWriteOnce]
          resources:
            requests: {storage: 10Gi}
    """
    return (memory_yaml,)


@app.cell(hide_code=True)
def why_memory_yaml():
    mo.md(r"""
    **Why so.** The claim template makes `qdrant-storage-qdrant-0`, which stays when the pod or the StatefulSet is deleted. The headless Service gives
    `qdrant-0` its DNS name (also while it loads) and the scraper its target. `/readyz` fails until the shards are loaded, so no
    query arrives too early; liveness stays on `/livez`, because otherwise a long load would end in a restart.
    """)
    return


@app.cell(hide_code=True)
def preview_memory_yaml(lab, memory_yaml):
    lab.live(nb.preview, memory_yaml)
    return


@app.cell(hide_code=True)
def apply_memory_yaml(apply_memory, lab, memory_yaml):
    nb.apply_panel(lab, memory_yaml, apply_memory)
    return


@app.cell(hide_code=True)
def pod_table(lab):
    lab.live(nb.pod_table, ("llm-system",))
    return


@app.cell(hide_code=True)
def board_install(lab):
    lab.live(nb.board, "install")
    return


@app.cell(hide_code=True)
def hints_install(lab):
    lab.live(
        nb.task_hints,
        "install",
        "`volumeClaimTemplates` belongs beside `template`, not in it. `volumeMounts` refers to its name; "
        "remove the volume of that name from `volumes`.",
        "A claim template is a claim without a namespace: `metadata.name`, then `spec` with `accessModes: [ReadWriteOnce]` "
        "and `resources.requests.storage`. Without `storageClassName` the cluster's default class serves it.",
        "A headless Service has `clusterIP: None`. `publishNotReadyAddresses: true` lets names resolve while Qdrant loads.",
        "`/healthz` and `/livez` are about the process, `/readyz` is about the shards.",
        "If the image cannot be pulled: the button at the top of the page, or `course start 03`, brings it in.",
    )
    return


@app.cell(hide_code=True)
def the_same_by_helm():
    mo.md(r"""
    ### The same by Helm

    A **chart** is a set of templates; your **values** fill them in. `helm upgrade --install` renders them, sends the
    objects, and remembers each attempt as a *revision*, so that there is a way back. On the embedded cluster the chart
    is the course's own, for its image; everywhere else it is the official one. Both take these values.

    This is the other way to do part 2, and it is graded alike. Helm does not take over what was applied: press
    **Reset this part** above first. The claim goes with it, and all that is on it.

    **Your turn.** Open the page's terminal with `Ctrl`+`` ` `` (or use `course shell`). The first `helm` command builds
    Helm on this machine, which takes about three minutes, once.

    1. Run the command below with your colleague's values. After a minute, Helm gives up: the release is *failed*. Its
       objects are there all the same, and `kubectl get events -n llm-system` says what is missing.
    2. The chart's defaults do not fit a cluster with a quota. Give the container resources; leave out the init container,
       which asks for nothing either (`updateVolumeFsOwnership`; `fsGroup` does its work). Of the three probes, only
       readiness is on: turn on the others. Then run the same command again.
    3. Now a change that cannot work: `size: 20Gi`. The claim template of a StatefulSet never changes, so the new revision
       has failed, while Qdrant still runs as before. Go back with `helm rollback`, and set the size back, too.
    """)
    return


@app.cell
def qdrant_values():
    qdrant_values = """
    persistence: {size: 10Gi}
    config: {cluster: {enabled: false}}
    updateVolumeFsOwnership: false
    terminationGracePeriodSeconds: 15
    resources:
      requests: {cpu: 100m, memory: 256Mi}
      limits: {cpu: "1", memory: 1Gi}
    startupProbe: {enabled: true, initialDelaySeconds: 0, periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 600}
    readinessProbe: {enabled: true, initialDelaySeconds: 0, periodSeconds: 1, timeoutSeconds: 2}
    livenessProbe: {enabled: true, periodSeconds: 10, timeoutSeconds: 2}
    """
    return (qdrant_values,)


@app.cell(hide_code=True)
def why_qdrant_values():
    mo.md(r"""
    **Why so.** A quota on `limits.cpu` refuses every container that names none, an init container too. Without a start-up
    probe, liveness would count from the first second, and kill a Qdrant that is still loading. A failed revision is
    not undone by itself (unless `--rollback-on-failure` asks for it): the next `helm upgrade` or `helm rollback` does that.
    """)
    return


@app.cell(hide_code=True)
def helm_command(lab, qdrant_values):
    draw.helm_command(lab, qdrant_values)
    return


@app.cell(hide_code=True)
def helm_releases(lab):
    lab.live(draw.releases)
    return


@app.cell(hide_code=True)
def hints_helm(lab):
    lab.live(
        nb.task_hints,
        "install",
        "`kubectl describe statefulset qdrant -n llm-system` ends with what the API server says of its pod.",
        "A probe is on with `livenessProbe: {enabled: true}`; what you leave out stays as the chart has it.",
        '"invalid ownership metadata": the objects were made by Apply. Press **Reset this part** above. '
        '"conflicts with course": Apply has changed them since; `--force-conflicts` takes them back.',
        "`helm history qdrant -n llm-system` lists the revisions; the table above shows the same.",
        '"another operation is in progress": an earlier helm was interrupted. Only a rollback ends that.',
        "To go back to the manifest: `helm uninstall qdrant -n llm-system`, then Apply. The claim stays.",
    )
    return


@app.cell(hide_code=True)
def a_collection_for_your_model():
    mo.md(r"""
    ## 3 · A collection for your model

    A collection is made for vectors of one **size** and one **distance**; both follow from the embedding model. The
    course computes the vectors on your machine, with all-MiniLM-L6-v2: 384 numbers for a text, length one, compared by
    their angle. The corpus is small and real: 51 passages about running this stack, each about one layer of it.

    You will search *within* a layer. Its field needs a payload index: a keyword index, because `memory` must match
    exactly, not word by word.

    **Your turn.** Correct the three values, and make the collection. Making it again deletes what is in it.
    """)
    return


@app.cell
def collection():
    collection = {"size": 384, "distance": "Cosine", "index": "layer"}
    return (collection,)


@app.cell(hide_code=True)
def why_collection():
    mo.md(r"""
    **Why so.** The model decides: 384 numbers, of length one, so that only the angle differs. The keyword index makes the filter part of
    the search: without it, Qdrant reads the payload of each candidate.
    """)
    return


@app.cell(hide_code=True)
def collection_preview(collection, lab):
    lab.live(draw.collection_preview, collection, to_point)
    return


@app.cell(hide_code=True)
def wait_for_qdrant(collection, lab, make_collection):
    def make_it(say):
        wanted = collection_of(collection, to_point)
        draw.wait_for_qdrant(lab, say)
        with memory.connect(lab.cluster) as qdrant:
            qdrant.recreate_collection(**wanted)
            state = qdrant.state()
        indexes = ", ".join(state.indexes) or "none"
        return f"`{state.name}`: {state.dimensions} dimensions, {state.distance}, indexes: {indexes}"

    draw.act(
        lab,
        make_collection,
        make_it,
        title="Making the collection",
        undo=lambda: draw.without_collection(lab),
    )
    return


@app.cell(hide_code=True)
def task_to_point():
    mo.md(r"""
    Now the passages. `to_point` turns each into a point: an **id**, the vector, and a **payload**, the part that filters
    and readers see.

    **Your turn.** So far, ingesting twice stores everything twice, and no filter by layer can ever match. Fix both.
    A passage has `key`, `layer`, `title`, `text`, and `id`: a UUID derived from its key.
    """)
    return


@app.function
def to_point(passage, vector):
    return {
        "id": passage.id,
        "vector": vector,
        "payload": {
            "kind": "passage",
            "key": passage.key,
            "layer": passage.layer,
            "title": passage.title,
            "text": passage.text,
        },
    }


@app.cell(hide_code=True)
def why_to_point():
    mo.md(r"""
    **Why so.** The id is a UUID of version 5 of the passage's key: whoever ingests it, and however often, a passage is always the same point.
    The layer goes into the payload, because a filter sees nothing else.
    """)
    return


@app.cell(hide_code=True)
def ingest_panel(ingest, lab):
    draw.ingest_panel(lab, ingest, memory.corpus(), to_point)
    return


@app.cell(hide_code=True)
def board_collection(lab):
    lab.live(nb.board, "collection")
    return


@app.cell(hide_code=True)
def hints_collection(lab):
    lab.live(
        nb.task_hints,
        "collection",
        "The size and the distance of the model are in the text above. For vectors of length one, `Cosine` is the angle.",
        "`passage.id` is the same on every machine and every day; `uuid4()` is new each time.",
        "Too many points? Points with random ids stay: make the collection again, then ingest.",
        '`"layer": passage.layer` belongs in the payload, and `"layer"` is the field to index.',
    )
    return


@app.cell(hide_code=True)
def task_ask():
    mo.md(r"""
    Now ask. Edit the question, or set `layer` to `"inference"`, `"memory"`, `"isolation"`, `"chaos"` or
    `"substrate"`. The filter is applied *during* the search, not afterwards: you get three hits of that layer, not
    only those of the best three overall that are in it.
    """)
    return


@app.cell
def question():
    question = "Why does my pod stay Pending although a GPU is free?"
    layer = "substrate"
    return layer, question


@app.cell(hide_code=True)
def answers(ingest, lab, layer, lost, question, restored):
    draw.answers(lab, question, layer, ingest, lost, restored)
    return


@app.cell(hide_code=True)
def health_is_not_correctness():
    mo.md(r"""
    ## 4 · Health is not correctness

    Three health paths, and what your collection really holds:
    """)
    return


@app.cell(hide_code=True)
def vital_signs(lab):
    lab.live(draw.vital_signs)
    return


@app.cell(hide_code=True)
def guess_health():
    guess_health = nb.predict(
        "Overnight somebody re-created the collection, and the ingestion job failed at once. "
        "Which of these alerts fires first?",
        {
            "readyz": "The readiness probe: an empty collection is not ready to serve",
            "errors": "The error rate: queries against an empty collection fail",
            "none": "None: probes are green, queries answer 200, with zero hits",
        },
    )
    guess_health
    return (guess_health,)


@app.cell(hide_code=True)
def guess_health_answer(guess_health):
    nb.reveal(
        guess_health.value,
        truth="none",
        because="Probes ask whether the server can answer, and it can: it answers quickly, with nothing. Only a test that knows "
        "what *should* be there can notice: a count, a schema, and a few **golden queries** with known answers. The "
        "four checks of part 3 are such tests.",
        instead={
            "readyz": "Readiness means that shards are loaded. A collection without points has all of its shards loaded.",
            "errors": "Zero hits are a valid answer, with status 200.",
        },
    )
    return


@app.cell(hide_code=True)
def broken_panel(break_memory, lab):
    mo.vstack(
        [
            mo.md(
                "See for yourself: this breaks a scratch collection in three ways, probes it, queries it, and removes it."
            ),
            draw.broken_panel(lab, break_memory),
        ]
    )
    return


@app.cell(hide_code=True)
def count_by_hand():
    mo.md(r"""
    **By hand.** Ask Qdrant from a pod of `llm-apps`, as an application would. The first request is the readiness probe's.
    The second counts the passages of the layer `memory`. The third differs from it in one letter.
    """)
    return


@app.cell(hide_code=True)
def preview_client(lab):
    lab.live(nb.preview, nb.client_yaml())
    return


@app.cell(hide_code=True)
def apply_the_client(apply_client, lab):
    nb.apply_panel(lab, nb.client_yaml(), apply_client)
    return


@app.cell(hide_code=True)
def guess_field():
    guess_field = nb.predict(
        "The third request filters by `Layer`, a field that no point has. What does Qdrant answer?",
        {
            "missing": "404: there is no such field",
            "index": "400: the field has no index",
            "zero": "200, with a count of 0",
        },
    )
    guess_field
    return (guess_field,)


@app.cell(hide_code=True)
def by_hand_count(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl wait -n llm-apps pod/curl-client --for=condition=Ready --timeout=90s
        kubectl exec -n llm-apps curl-client -- curl -sS http://qdrant.llm-system.svc.cluster.local:6333/readyz
        kubectl exec -n llm-apps curl-client -- curl -sS http://qdrant.llm-system.svc.cluster.local:6333/collections/course_docs/points/count -H 'Content-Type: application/json' -d '{"exact": true, "filter": {"must": [{"key": "layer", "match": {"value": "memory"}}]}}'
        kubectl exec -n llm-apps curl-client -- curl -sS http://qdrant.llm-system.svc.cluster.local:6333/collections/course_docs/points/count -H 'Content-Type: application/json' -d '{"exact": true, "filter": {"must": [{"key": "Layer", "match": {"value": "memory"}}]}}'
        """,
    )
    return


@app.cell(hide_code=True)
def guess_field_answer(guess_field):
    nb.reveal(
        guess_field.value,
        truth="zero",
        because="A payload has no schema. A field that no point has is a condition that no point meets, and zero is a valid "
        "answer. To its users a misspelled filter looks like an empty memory; only a question with a known answer tells.",
        instead={
            "missing": "404 is for a collection that is not there. Payload fields are not declared anywhere.",
            "index": "An index makes a filter fast. Without one, Qdrant looks at each point.",
        },
    )
    return


@app.cell(hide_code=True)
def the_process_dies():
    mo.md(r"""
    ## 5 · The process dies

    Delete the pod. The StatefulSet creates another with the same name, on the same claim; Qdrant opens its segments and
    replays its write-ahead log, and only then does `/readyz` answer 200, and the Service gets its address back.
    """)
    return


@app.cell(hide_code=True)
def guess_restart():
    guess_restart = nb.predict(
        "A client sends a point, and Qdrant acknowledges it. A moment later the process is killed with `SIGKILL`, "
        "before anything was flushed to segments. Is the point there after the restart?",
        {
            "no": "No: what was not flushed is lost",
            "yes": "Yes: acknowledged means that it is in the write-ahead log",
            "maybe": "Perhaps: it depends on the page cache",
        },
    )
    guess_restart
    return (guess_restart,)


@app.cell(hide_code=True)
def guess_restart_answer(guess_restart):
    nb.reveal(
        guess_restart.value,
        truth="yes",
        because="An operation is written to the log before it is acknowledged, and the log is replayed at start. Killing the "
        "*process* does not lose what the kernel has taken over; losing the *machine* before it is on the disk would.",
        instead={
            "no": "Segments are flushed every few seconds; the log covers the time between.",
            "maybe": "The page cache belongs to the kernel and survives the process. For a power cut you would be right.",
        },
    )
    return


@app.cell(hide_code=True)
def restart_panel(kill_pod, lab):
    @nb.needs_cluster
    def restart(session):
        with nb.spinner("Deleting qdrant-0 and watching the new pod") as say:
            moments = memory.replace_pod(
                session.cluster,
                on_moment=lambda m: say(f"{m.at_s:.1f} s: {m.phase}, readyz {m.readyz}"),
            )
        return mo.vstack([draw.timeline(moments)])

    mo.vstack([kill_pod, restart(lab)] if lab.asked(kill_pod) else [kill_pod])
    return (restart,)


@app.cell(hide_code=True)
def board_restart(lab):
    lab.live(nb.board, "restart")
    return


@app.cell(hide_code=True)
def hints_restart(lab):
    lab.live(
        nb.task_hints,
        "restart",
        "`kubectl delete pod -n llm-system qdrant-0`, then `kubectl get pods -n llm-system -w`.",
        "The check looks at `/metrics` of the running process: how many points it serves, and how often it was sent any. "
        "After anything you write, the pod must be deleted again to prove it: part 6 ends with that step.",
    )
    return


@app.cell(hide_code=True)
def the_disk_is_gone():
    mo.md(r"""
    ## 6 · The disk is gone

    A clean-up script deletes the claim, a node's disk fails, a storage class deletes the volume: the pod comes back as
    quickly as before, ready, green, and empty. Only what was done **before** helps then: a snapshot, copied somewhere
    else. By default the chart keeps snapshots in an `emptyDir` of the same pod, and they would be gone as well.

    Follow this order. The note is the proof: it is not in the corpus, so ingesting again cannot bring it back.
    """)
    return


@app.cell
def shown_volume_note():
    note = "Escalation for the memory layer: the on-call phone hangs beside the coffee machine."
    return (note,)


@app.cell(hide_code=True)
def snapshots(lab, note, write_note):
    def write(say):
        with memory.connect(lab.cluster) as qdrant:
            qdrant.write_note(text_of("note", note), embedder())
        return "the note is now a point of the collection"

    draw.act(lab, write_note, write, title="Writing the note", undo=lambda: draw.without_note(lab))
    return


@app.cell(hide_code=True)
def copies(lab, take_copy):
    def copy(say):
        with memory.connect(lab.cluster) as qdrant:
            say("taking the snapshot")
            snapshot = qdrant.take_snapshot()
            say(f"copying {snapshot.size / 1e6:.1f} MB to this machine")
            path = qdrant.download(snapshot, copies)
        return f"`{path.name}`, {snapshot.size / 1e6:.1f} MB, sha256 `{(snapshot.checksum or '')[:12]}…`, is on this machine"

    copies = home_dir() / "snapshots"
    draw.act(lab, take_copy, copy, title="Snapshot and copy")
    return (copies,)


@app.cell(hide_code=True)
def guess_volume():
    guess_volume = nb.predict(
        "You delete the claim while the pod is running. What happens first?",
        {
            "gone": "The volume and its data are gone at once, and Qdrant fails",
            "protected": "The claim is marked for deletion, and stays as long as a pod uses it",
            "refused": "The API server refuses: the claim is in use",
        },
    )
    guess_volume
    return (guess_volume,)


@app.cell(hide_code=True)
def guess_volume_answer(guess_volume):
    nb.reveal(
        guess_volume.value,
        truth="protected",
        because="The finalizer `kubernetes.io/pvc-protection` keeps the claim while a pod uses it. As soon as that pod ends, "
        "for whatever reason, the claim is deleted, and with reclaim policy Delete the data too. Until then nothing looks wrong.",
        instead={
            "gone": "A finalizer delays that: the deletion is accepted, and waits.",
            "refused": "Deletion is accepted. It is carried out later, which is worse.",
        },
    )
    return


@app.cell(hide_code=True)
def lost(copies, lab, lose):
    def lose_it(say):
        draw.newest_copy(copies)  # without one there would be no way back
        memory.lose_volume(lab.cluster, on_progress=say)
        return "the claim and everything on it are gone; a new, empty volume is in its place"

    lost = draw.act(lab, lose, lose_it, title="Losing the volume")
    mo.vstack(
        [
            mo.md("**This deletes every vector you have stored.** That is the exercise."),
            lost,
        ]
    )
    return (lost,)


@app.cell(hide_code=True)
def restored(copies, lab, restore):
    def bring_back(say):
        newest = draw.newest_copy(copies)
        say(f"uploading {newest.name}")
        with memory.connect(lab.cluster) as qdrant:
            qdrant.restore(newest)
            state = qdrant.state()
        return f"{state.points} points are back, from `{newest.name}`"

    restored = draw.act(lab, restore, bring_back, title="Restoring")
    restored
    return (restored,)


@app.cell(hide_code=True)
def restore_preview(kill_again, lab, restart):
    mo.vstack(
        [
            mo.md(
                "The process that serves the points now was just sent them. A restore is complete when the points "
                "are there in a new process too:"
            ),
            kill_again,
            *([restart(lab)] if lab.asked(kill_again) else []),
        ]
    )
    return


@app.cell(hide_code=True)
def board_restore(lab):
    lab.live(nb.board, "restore")
    return


@app.cell(hide_code=True)
def hints_restore(lab):
    lab.live(
        nb.task_hints,
        "restore",
        "Look at the table of part 4 between the steps: it is green all the time, whatever the collection holds.",
        "Losing the volume by hand: `kubectl scale statefulset qdrant -n llm-system --replicas=0`, "
        "`kubectl delete pvc qdrant-storage-qdrant-0 -n llm-system`, `kubectl scale statefulset qdrant -n llm-system --replicas=1`.",
        "A snapshot by hand: `kubectl port-forward -n llm-system service/qdrant 6333:6333 &`, and then with curl on this machine "
        "`POST /collections/course_docs/snapshots` takes one, `POST /collections/course_docs/snapshots/upload?priority=snapshot` "
        "with the form field `snapshot` restores one.",
        "The note is missing after the restore? Then the snapshot was taken before the note was written. What is newer than the "
        "last snapshot is lost; how much loss you accept is called the recovery point objective.",
    )
    return


@app.cell(hide_code=True)
def seen_by_prometheus():
    mo.md(r"""
    ## 7 · Seen by Prometheus

    `/metrics` says what probes do not: how many points each collection holds, how long answers take, how much memory
    is resident. An alert on `collection_points` would have fired in part 4.
    """)
    return


@app.cell(hide_code=True)
def metrics_table(lab):
    lab.live(draw.metrics_table)
    return


@app.cell(hide_code=True)
def task_service_monitor():
    mo.md(r"""
    A `ServiceMonitor` tells the Prometheus Operator what to scrape: Services by label, a port by *name*. It selects only
    the headless Service, because with both Services every pod would be counted twice. Read how your cluster answers:
    """)
    return


@app.cell
def shown_monitor_yaml():
    monitor_yaml = """
    apiVersion: monitoring.coreos.com/v1
    kind: ServiceMonitor
    metadata:
      name: qdrant
      namespace: llm-system
      labels: {release: kube-prometheus-stack}
    spec:
      selector:
        matchLabels:
          app.kubernetes.io/name: qdrant
          app.kubernetes.io/component: cluster-discovery
      endpoints:
      - {port: http, path: /metrics, interval: 30s}
    """
    return (monitor_yaml,)


@app.cell(hide_code=True)
def monitor_preview(lab, monitor_yaml):
    lab.live(nb.preview, monitor_yaml)
    return


@app.cell(hide_code=True)
def notice_the_target():
    mo.md(r"""
    **What to notice.** A ServiceMonitor is not part of Kubernetes: without the operator's CustomResourceDefinition the
    API server has no such kind, and a chart with `serviceMonitor.enabled: true` fails as a whole. An installed
    Prometheus is not enough; its *operator* must be installed.

    GPU metrics come the same way: NVIDIA's DCGM exporter, a Service with the label
    `app.kubernetes.io/name: dcgm-exporter`, and a ServiceMonitor in its namespace. It asks the kubelet which pod
    holds which card, and the driver what the card does. (An XID is an error number of the driver; 79 means that the
    card does not answer any more.)
    """)
    return


@app.cell(hide_code=True)
def gpu_table(lab):
    lab.live(draw.gpu_table)
    return


@app.cell(hide_code=True)
def notice_two_kinds_of_memory():
    mo.md(r"""
    **What to notice.** A card can be **held and idle**: while lab 02's vLLM waits for requests, `DCGM_FI_DEV_GPU_UTIL`
    is near 0, nobody else gets the card, and the hour costs the same. That is worth an alert of its own. A busy card
    alone is no reason for an alert: 100 % means that something ran all the time, not that anybody waited. For the queue,
    look at `vllm:num_requests_waiting`, as in lab 02.
    """)
    return


@app.cell(hide_code=True)
def board_metrics(lab):
    lab.live(nb.board, "metrics")
    return


@app.cell(hide_code=True)
def upgrades_go_one_step_at_a():
    mo.md(r"""
    ## 8 · Upgrades go one step at a time

    Qdrant promises to read what the previous minor version wrote, and no more. So an upgrade needs one rollout for each
    minor version (its newest patch), with a snapshot before it and the golden queries after it. The way back is the
    snapshot: an older version does not read newer segments. With a chart, change the **chart's** version each time;
    changing only the image would miss new probes and defaults.
    """)
    return


@app.cell
def shown_running_version():
    running_version, wanted_version = "1.15", "1.20"
    return running_version, wanted_version


@app.cell(hide_code=True)
def upgrade_path(running_version, wanted_version):
    draw.upgrade_path(running_version, wanted_version)
    return


@app.cell(hide_code=True)
def whole_lab(PARTS, lab):
    lab.live(nb.titled, "### The whole lab", nb.scoreboard, PARTS)
    return


@app.cell(hide_code=True)
def look_again():
    tick = nb.refresh()
    tick
    return (tick,)


@app.cell(hide_code=True)
def quiz():
    mo.md(r"""
    ### Quiz
    """)
    return


@app.cell(hide_code=True)
def quiz_board(QUESTIONS, quiz_answers):
    nb.quiz_board(quiz_answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def what_you_take_along():
    mo.md(r"""
    ### What you take along

    - State needs a claim **and** a name; a Deployment with an `emptyDir` works in every demo, until the pod is replaced.
    - Probes say *can serve*. Counts, schemas and golden queries say *serves the right thing*.
    - A snapshot is a backup only if it is kept elsewhere **and** was restored once.
    - Deterministic ids make ingestion repeatable; with random ones every ingestion adds all passages again.
    - Upgrade one minor version at a time, with a snapshot to go back to.

    **Next:** `course open 04`. At the moment every pod of the cluster can read, and delete, what you have stored.
    """)
    return


@app.cell(hide_code=True)
def lab(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    lab, acted = nb.open_page("03", reconnect.value, answered(), pressed=pressed)
    return acted, lab


@app.cell(hide_code=True)
def pressed():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def buttons():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    place = nb.apply_button("Put what this lab needs in place", kind="neutral")
    apply_memory = nb.apply_button("Apply Qdrant")
    make_collection = nb.apply_button("Make the collection")
    ingest = nb.apply_button("Ingest the corpus")
    break_memory = nb.apply_button("Show me three broken memories", kind="neutral")
    apply_client = nb.apply_button("Apply curl-client", kind="neutral")
    kill_pod = nb.apply_button("Delete the pod", kind="warn")
    write_note = nb.apply_button("1 · Write the note")
    take_copy = nb.apply_button("2 · Take a snapshot, and copy it here")
    lose = nb.apply_button("3 · Lose the volume", kind="danger")
    restore = nb.apply_button("4 · Restore from the copy")
    kill_again = nb.apply_button("5 · Delete the pod once more", kind="warn")
    return (
        answered,
        apply_client,
        apply_memory,
        break_memory,
        cluster_answers,
        ingest,
        kill_again,
        kill_pod,
        lose,
        make_collection,
        place,
        reconnect,
        restore,
        take_copy,
        write_note,
    )


@app.cell(hide_code=True)
def look(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def parts_and_quiz():
    PARTS = (
        nb.Part("1 · How much will it hold?", 8),
        nb.Part("2 · A pod with a name and a volume", 20, ("install",)),
        nb.Part("3 · A collection for your model", 18, ("collection",)),
        nb.Part("4 · Health is not correctness", 5),
        nb.Part("5 · The process dies", 6, ("restart",)),
        nb.Part("6 · The disk is gone", 14, ("restore",)),
        nb.Part("7 · Seen by Prometheus", 8, ("metrics",)),
        nb.Part("8 · Upgrades go one step at a time", 6),
    )
    QUESTIONS = [
        nb.Question(
            "After a node drain `qdrant-0` has been running for two minutes, and readiness still fails. What do you do?",
            (
                nb.Option(
                    "Restart it", "It would begin to load from the start, and need the same time again."
                ),
                nb.Option(
                    "Wait, and watch its log: segments are loading",
                    "That is what readiness is for. The pod keeps its name and volume, the Service keeps clients away.",
                    right=True,
                ),
                nb.Option(
                    "Point readiness at /healthz",
                    "Then queries arrive at a server that has not loaded what they ask for.",
                ),
            ),
        ),
        nb.Question(
            "Queries answer 200, quickly, with passages that have nothing to do with the question. Counts are right. "
            "What do you suspect first?",
            (
                nb.Option(
                    "Questions and passages were embedded by different models",
                    "Their size is the same, so nothing refuses such vectors. Golden queries notice.",
                    right=True,
                ),
                nb.Option("A missing payload index", "That makes filters slow, not answers wrong."),
                nb.Option("Too little memory", "It would show as latency or restarts."),
            ),
        ),
        nb.Question(
            "You may keep one: hourly snapshots on the data volume, or one a day in another place.",
            (
                nb.Option(
                    "Hourly", "They protect against a wrong write, and are lost together with the volume."
                ),
                nb.Option(
                    "Daily, elsewhere",
                    "A day may be lost, but not everything. The better answer is to copy the hourly ones too.",
                    right=True,
                ),
            ),
        ),
        nb.Question(
            "`helm upgrade` from Qdrant 1.16 to 1.20 in one step, on a copy of the data, has worked. Do you do it in production?",
            (
                nb.Option(
                    "No: 1.17, 1.18, 1.19, 1.20, a snapshot before each",
                    "Each minor is only promised to read the data of the one before it; one copy that worked promises nothing.",
                    right=True,
                ),
                nb.Option(
                    "Yes: it was tested",
                    "It was tested with one copy. No release promises to read data from more than one minor before.",
                ),
            ),
        ),
    ]
    quiz_answers = nb.quiz(QUESTIONS)
    return PARTS, QUESTIONS, quiz_answers


if __name__ == "__main__":
    app.run()
