import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="09 · Models as data",
    css_file="../helpers/notebook/course.css",
)

with app.setup(hide_code=True):
    import marimo as mo

    from helpers import notebook as nb
    from helpers.apps.isvc.decisions import InvalidSpec, Problem, Seen
    from helpers.labs.lab09_models import draw_controller, draw_staging


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 09 · Models as data

    A model is a few small files and one that is very large. It is written once, read by every replica, and never changed. In this
    lab the same model gets to its servers in four ways, and you measure what each costs. Then you roll out a second version and
    take it back. In the second half you write the controller that does all this when somebody asks for a model by name.

    *165 minutes. What the cluster does is graded, and what the witnesses saw there. It makes no difference whether you press
    the buttons on this page or use `kubectl` and `course witness` in its terminal, which `Ctrl`+`` ` `` opens.*
    """)
    return


@app.cell(hide_code=True)
def _(PARTS, lab):
    lab.live(nb.bar, PARTS)
    return


@app.cell(hide_code=True)
def _(cluster_answers, lab, reconnect):
    nb.connection_card(lab, reconnect, cluster_answers)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What there is to serve

    | image | in this page's texts | has | for |
    | --- | --- | --- | --- |
    | `smollm2-135m-instruct` | `$MODELS:1`, `$MODELS:2`, `$MODELS:stable` | the files of SmolLM2-135M in `/models`, and nothing that runs | volumes |
    | `smollm2-135m-modelcar` | `$MODELCAR` | the files of version 1 in `/models`, and a shell | init containers and sidecars, which have to run something |
    | `vllm-cpu` | `$VLLM` | the engine, and no model | every server of this lab |

    They were made on this machine, and there is no registry: a node cannot fetch what it does not have.

    All servers read `/mnt/models`, as KServe's do, and are told the rest by ConfigMap `model-server`. They are real and small: the
    engine is vLLM's build for CPUs, in float32, with 64 MiB for its cache, and they ask for no card. A model of this size is
    copied in a second; one of 140 GB is not. So nothing here is graded in seconds: bytes, copies and who may write are the
    same for both sizes.

    Servers of all four ways at once would take too much memory beside the labs before: each takes more than 1 GiB. So your Deployments have no
    pod until a **witness** looks at them: it scales one up, looks into its pods, tries to write, asks a question, and scales it down
    again. What does not start is left as it is, so that you can find out why. Look at one way after the other. What a witness saw
    counts until you change the object that it looked at.
    """)
    return


@app.cell(hide_code=True)
def _():
    nb.layer_picture("inference")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `course start 09` makes the namespace `llm-models`, the server's settings, the list of versions, and what the second half
    needs. No other lab has to be solved.
    """)
    return


@app.cell(hide_code=True)
def _(lab, place):
    nb.start_panel(lab, place)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1 · A copy in every pod

    The oldest way works on every Kubernetes: an **init container** runs before the server and copies the model out of its own
    image into a volume of the pod. The draft has two faults: the server does not find the model, and once it does, whoever
    takes over the server may change the weights. The witness tells you which is next.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_copy = nb.predict(
        "Three pods of this Deployment run on one node. How many copies of the model does the node hold?",
        {
            "one": "One: the image lies on the node once",
            "three": "Three, one in each pod's volume",
            "four": "Four: one in the image, and one in each pod's volume",
        },
    )
    guess_copy
    return (guess_copy,)


@app.cell
def _():
    copy_yaml = """
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: by-copy
      namespace: llm-models
    spec:
      # None until a witness looks.
      replicas: 0
      selector:
        matchLabels: {app: by-copy}
      template:
        metadata:
          labels: {app: by-copy}
        spec:
          initContainers:
            - name: copy-the-model
              image: $MODELCAR
              imagePullPolicy: IfNotPresent
              command: [sh, -c, "cp -r /models /mnt/models/"]
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: model, mountPath: /mnt/models}
          containers:
            - name: server
              image: $VLLM
              args: [--config, /etc/vllm/serve.yaml]
              ports:
                - {name: http, containerPort: 8000}
              startupProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 1
                failureThreshold: 300
              readinessProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 2
              resources:
                requests: {cpu: 10m, memory: 512Mi}
                limits: {cpu: "2", memory: 2Gi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: model, mountPath: /mnt/models}
                - {name: serve, mountPath: /etc/vllm}
          volumes:
            - name: model
              emptyDir: {}
            - name: serve
              configMap: {name: model-server}
    """
    return (copy_yaml,)


@app.cell(hide_code=True)
def _(copy_yaml, lab):
    lab.live(draw_staging.preview, copy_yaml)
    return


@app.cell(hide_code=True)
def _(apply_copy, copy_yaml, lab):
    draw_staging.apply_panel(lab, copy_yaml, apply_copy)
    return


@app.cell(hide_code=True)
def _(lab, see_copy):
    draw_staging.witness_panel(lab, "by-copy", see_copy)
    return


@app.cell(hide_code=True)
def _(guess_copy):
    nb.reveal(
        guess_copy.value,
        truth="four",
        because="The image's layers stay in the node's image store, and each pod has a copy of its own. It goes with the pod, and is made anew at every start.",
        instead={
            "one": "That one is there too. The init container reads it, and writes another one.",
            "three": "And the image that they were copied from.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "copy")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "copy",
        "Does the server start? `kubectl logs -n llm-models deploy/by-copy -c server` says what it looks for.",
        "What does `cp -r` make of a folder that is there already? Try it in the terminal: `mkdir -p /tmp/a /tmp/b && touch /tmp/a/file && cp -r /tmp/a /tmp/b/ && find /tmp/b`",
        "Copy the content of the folder (`/models/.`), and give the server's mount `readOnly: true`.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 2 · One claim for all

    A **PersistentVolumeClaim** holds one copy, and any number of pods mounts it. A Job fills it once. The draft asks for the access
    mode `ReadOnlyMany`, because that is how the model will be used. See what the storage class says to that.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_claim = nb.predict(
        "A claim has `accessModes: [ReadOnlyMany]`, and a pod mounts it without `readOnly`. May the pod write?",
        {
            "no": "No: the access mode forbids it",
            "yes": "Yes: the access mode does not make a mount read-only",
            "root": "Only as root",
        },
    )
    guess_claim
    return (guess_claim,)


@app.cell
def _():
    claim_yaml = """
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: models
      namespace: llm-models
    spec:
      accessModes: [ReadOnlyMany]
      storageClassName: $STORAGE_CLASS
      resources:
        requests: {storage: 1Gi}
    ---
    apiVersion: batch/v1
    kind: Job
    metadata:
      name: fill-the-claim
      namespace: llm-models
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers:
            - name: fill
              image: $MODELCAR
              imagePullPolicy: IfNotPresent
              command: [sh, -c, "cp -r /models/. /mnt/models/"]
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: models, mountPath: /mnt/models}
          volumes:
            - name: models
              persistentVolumeClaim: {claimName: models}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: by-claim
      namespace: llm-models
    spec:
      # None until a witness looks.
      replicas: 0
      selector:
        matchLabels: {app: by-claim}
      template:
        metadata:
          labels: {app: by-claim}
        spec:
          containers:
            - name: server
              image: $VLLM
              args: [--config, /etc/vllm/serve.yaml]
              ports:
                - {name: http, containerPort: 8000}
              startupProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 1
                failureThreshold: 300
              readinessProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 2
              resources:
                requests: {cpu: 10m, memory: 512Mi}
                limits: {cpu: "2", memory: 2Gi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: models, mountPath: /mnt/models}
                - {name: serve, mountPath: /etc/vllm}
          volumes:
            - name: models
              persistentVolumeClaim: {claimName: models}
            - name: serve
              configMap: {name: model-server}
    """
    return (claim_yaml,)


@app.cell(hide_code=True)
def _(claim_yaml, lab):
    lab.live(draw_staging.preview, claim_yaml)
    return


@app.cell(hide_code=True)
def _(apply_claim, claim_yaml, lab):
    draw_staging.apply_panel(lab, claim_yaml, apply_claim)
    return


@app.cell(hide_code=True)
def _(lab, see_claim):
    draw_staging.witness_panel(lab, "by-claim", see_claim)
    return


@app.cell(hide_code=True)
def _(guess_claim):
    nb.reveal(
        guess_claim.value,
        truth="yes",
        because="Seen on this cluster's kind: such a mount is `rw` in /proc/mounts. The mode is used to find a volume and a node; `readOnly: true` makes the mount.",
        instead={
            "no": "It decides where the claim may be mounted, and how often.",
            "root": "Root may, and everybody else whom the files' permissions let.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "claim")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "claim",
        "`kubectl describe pvc models -n llm-models`: its last event says why nothing is provisioned.",
        "Which access mode does the message offer? A claim's mode cannot be changed: **Reset this part** takes claim, Job and Deployment away, and Apply makes them anew.",
        "`accessModes: [ReadWriteOnce]`, and `readOnly: true` on the mount of the servers, not on that of the Job.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3 · A neighbour's files: the modelcar

    An image lies unpacked on the node while one of its containers runs. So run it *beside* the server and read its files: the
    pod's processes see each other (`shareProcessNamespace`), and `/proc/PID/root` leads into the root of a process. The **sidecar**
    puts a link to it where the server looks, and then sleeps. KServe calls this a *modelcar*; it works on clusters that know no
    image volumes.

    Much can go wrong. The draft has three faults, and each of them leaves something that looks right.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_car = nb.predict(
        "The link leads nowhere. The sidecar's startup probe is `test -L /mnt/models`. What does it say?",
        {
            "fails": "It fails: there is no model",
            "passes": "It passes: the link itself is there",
            "error": "It hangs",
        },
    )
    guess_car
    return (guess_car,)


@app.cell
def _():
    car_yaml = """
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: by-car
      namespace: llm-models
    spec:
      # None until a witness looks.
      replicas: 0
      selector:
        matchLabels: {app: by-car}
      template:
        metadata:
          labels: {app: by-car}
        spec:
          shareProcessNamespace: true
          initContainers:
            - name: car
              image: $MODELCAR
              imagePullPolicy: IfNotPresent
              restartPolicy: Always
              command: [sh, -c, "ln -sfn /proc/$$/root/models /mnt/models && exec sleep 2147483647"]
              securityContext: {runAsUser: 0}
              startupProbe:
                exec:
                  command: [test, -L, /mnt/models]
                periodSeconds: 1
                failureThreshold: 30
              volumeMounts:
                - {name: link, mountPath: /mnt}
          containers:
            - name: server
              image: $VLLM
              args: [--config, /etc/vllm/serve.yaml]
              ports:
                - {name: http, containerPort: 8000}
              startupProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 1
                failureThreshold: 300
              readinessProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 2
              resources:
                requests: {cpu: 10m, memory: 512Mi}
                limits: {cpu: "2", memory: 2Gi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: link, mountPath: /mnt, readOnly: true}
                - {name: serve, mountPath: /etc/vllm}
          volumes:
            - name: link
              emptyDir: {}
            - name: serve
              configMap: {name: model-server}
    """
    return (car_yaml,)


@app.cell(hide_code=True)
def _(car_yaml, lab):
    lab.live(draw_staging.preview, car_yaml)
    return


@app.cell(hide_code=True)
def _(apply_car, car_yaml, lab):
    draw_staging.apply_panel(lab, car_yaml, apply_car)
    return


@app.cell(hide_code=True)
def _(lab, see_car):
    draw_staging.witness_panel(lab, "by-car", see_car)
    return


@app.cell(hide_code=True)
def _(guess_car):
    nb.reveal(
        guess_car.value,
        truth="passes",
        because="`-L` asks whether a link is there. The pod becomes Ready, or its server ends with a word about a missing folder, and nobody suspects the sidecar.",
        instead={
            "fails": "That would be `test -s /mnt/models/config.json`.",
            "error": "It answers at once, and wrongly.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "car")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "car",
        "In the sidecar: `kubectl exec -n llm-models deploy/by-car -c car -- ls -l /mnt`. Where does the link lead?",
        "Read what the server may see as its own user: `ls /mnt/models/` from the container `server`. `Permission denied` is about users, not about files.",
        "`$$$$` in the command, `test -s` on a file behind the link, and the same `securityContext` on both containers.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 4 · An image for a volume

    Since 1.31 as a trial, and in 1.36 for good, a pod may mount an image as a **volume**. Nothing runs in it, nothing is copied, and it is
    always read-only. The draft has three faults; the first shows in the status of the pod.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_image = nb.predict(
        "The image has been on the node for days. A pod asks for it with `pullPolicy: Always`, and the registry is away. What happens?",
        {
            "starts": "It starts: the image is there",
            "waits": "It does not start: the registry has to be asked first",
            "old": "It starts with a warning",
        },
    )
    guess_image
    return (guess_image,)


@app.cell
def _():
    image_yaml = """
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: by-image
      namespace: llm-models
    spec:
      # None until a witness looks.
      replicas: 0
      selector:
        matchLabels: {app: by-image}
      template:
        metadata:
          labels: {app: by-image}
        spec:
          containers:
            - name: server
              image: $VLLM
              args: [--config, /etc/vllm/serve.yaml]
              ports:
                - {name: http, containerPort: 8000}
              startupProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 1
                failureThreshold: 300
              readinessProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 2
              resources:
                requests: {cpu: 10m, memory: 512Mi}
                limits: {cpu: "2", memory: 2Gi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: model, mountPath: /mnt/models, readOnly: true}
                - {name: serve, mountPath: /etc/vllm}
          volumes:
            - name: model
              image: {reference: "$MODELS:stable", pullPolicy: Always}
            - name: serve
              configMap: {name: model-server}
    """
    return (image_yaml,)


@app.cell(hide_code=True)
def _(image_yaml, lab):
    lab.live(draw_staging.preview, image_yaml)
    return


@app.cell(hide_code=True)
def _(apply_image, image_yaml, lab):
    draw_staging.apply_panel(lab, image_yaml, apply_image)
    return


@app.cell(hide_code=True)
def _(lab, see_image):
    draw_staging.witness_panel(lab, "by-image", see_image)
    return


@app.cell(hide_code=True)
def _(guess_image):
    nb.reveal(
        guess_image.value,
        truth="waits",
        because="`Always` means: ask who has it. On a node that holds the image this costs one request, and it is the request that fails.",
        instead={
            "starts": "That is `IfNotPresent`.",
            "old": "There is no such warning. It waits, and says ErrImagePull.",
        },
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "image")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "image",
        "`kubectl describe pod -n llm-models -l app=by-image`: the events name the volume's image, as if it were a container's.",
        "Three lines of the draft: the policy, the name, and what is mounted of the image. Which folder of the image has the files?",
        "`pullPolicy: IfNotPresent`, `subPath: models` in the mount, and a name that stands for version 1.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5 · Which one, and why

    What the witnesses measured, on this node. The number of a file says which one on the disk was read: where two rows have the
    same one, no copy lies between them.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_staging.measured)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_staging.copies_picture)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Fill in the table from what was measured. `mib_per_pod`: what one more pod adds to its node's disk, in MiB. `copies_for_five`: how many
    copies five pods on one node need beside the node's image store. Then choose a way for each situation, by its name:

    - `old_cluster`: Kubernetes 1.27, one pod, a model of 200 MB. Whoever is on call has never heard of any of this.
    - `big_share`: 40 replicas on 20 nodes. An NFS share holds the 140 GB already, and no registry of the house takes layers of that size.
    - `kserve_1_30`: Kubernetes 1.30, which knows sidecars and no image volumes. Models come as images; a second copy on a node is not wanted.
    - `registry_1_36`: Kubernetes 1.36, a registry, versions by digest.
    """)
    return


@app.cell
def _():
    table_yaml = """
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: staging-decisions
      namespace: llm-models
    data:
      table.yaml: |
        by-copy: {mib_per_pod: null, copies_for_five: null}
        by-claim: {mib_per_pod: null, copies_for_five: null}
        by-car: {mib_per_pod: null, copies_for_five: null}
        by-image: {mib_per_pod: null, copies_for_five: null}
        choices:
          old_cluster:
          big_share:
          kserve_1_30:
          registry_1_36:
    """
    return (table_yaml,)


@app.cell(hide_code=True)
def _(lab, table_yaml):
    lab.live(draw_staging.preview, table_yaml)
    return


@app.cell(hide_code=True)
def _(apply_table, lab, table_yaml):
    draw_staging.apply_panel(lab, table_yaml, apply_table)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "decide")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "decide",
        "The table above has `mib_per_pod`. For five pods: which way multiplies, which has one copy, which has none?",
        "`old_cluster` needs what works everywhere. `kserve_1_30`: which of the four does without image volumes and without a copy?",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6 · What the kubelet says

    Three readers, each with one fault of its own. Apply them as they are, and read: the status names the step in which the kubelet
    stands, and its words name the cause, if you read them to the end. Then mend them, one line each. They are small pods without an
    engine.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_words = nb.predict(
        "One reader names a tag that does not exist. Another names one that lies on the node, and has to ask a registry that is not there. How do their statuses differ?",
        {
            "same": "Not at all",
            "found": "The first says *not found*",
            "runs": "The second runs: the image is there",
        },
    )
    guess_words
    return (guess_words,)


@app.cell
def _():
    readers_yaml = """
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: reader-a
      namespace: llm-models
    spec:
      replicas: 1
      selector:
        matchLabels: {app: reader-a}
      template:
        metadata:
          labels: {app: reader-a}
        spec:
          terminationGracePeriodSeconds: 1
          containers:
            - name: reader
              image: $TOOLBOX
              command: [sh, -c, "exec sleep 2147483647"]
              readinessProbe:
                exec: {command: [test, -s, /mnt/models/config.json]}
                periodSeconds: 2
              resources:
                requests: {cpu: 5m, memory: 8Mi}
                limits: {cpu: 100m, memory: 64Mi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: model, mountPath: /mnt/models, readOnly: true, subPath: models}
          volumes:
            - name: model
              image: {reference: "$MODELS:3", pullPolicy: IfNotPresent}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: reader-b
      namespace: llm-models
    spec:
      replicas: 1
      selector:
        matchLabels: {app: reader-b}
      template:
        metadata:
          labels: {app: reader-b}
        spec:
          terminationGracePeriodSeconds: 1
          containers:
            - name: reader
              image: $TOOLBOX
              command: [sh, -c, "exec sleep 2147483647"]
              readinessProbe:
                exec: {command: [test, -s, /mnt/models/config.json]}
                periodSeconds: 2
              resources:
                requests: {cpu: 5m, memory: 8Mi}
                limits: {cpu: 100m, memory: 64Mi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: model, mountPath: /mnt/models, readOnly: true, subPath: models}
          volumes:
            - name: model
              image: {reference: "$MODELS:1", pullPolicy: Always}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: reader-c
      namespace: llm-models
    spec:
      replicas: 1
      selector:
        matchLabels: {app: reader-c}
      template:
        metadata:
          labels: {app: reader-c}
        spec:
          terminationGracePeriodSeconds: 1
          containers:
            - name: reader
              image: $TOOLBOX
              command: [sh, -c, "exec sleep 2147483647"]
              readinessProbe:
                exec: {command: [test, -s, /mnt/models/config.json]}
                periodSeconds: 2
              resources:
                requests: {cpu: 5m, memory: 8Mi}
                limits: {cpu: 100m, memory: 64Mi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: model, mountPath: /mnt/models, readOnly: true, subPath: model}
          volumes:
            - name: model
              image: {reference: "$MODEL_V1", pullPolicy: IfNotPresent}
    """
    return (readers_yaml,)


@app.cell(hide_code=True)
def _(lab, readers_yaml):
    lab.live(draw_staging.preview, readers_yaml)
    return


@app.cell(hide_code=True)
def _(apply_readers, lab, readers_yaml):
    draw_staging.apply_panel(lab, readers_yaml, apply_readers)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_staging.reader_words)
    return


@app.cell(hide_code=True)
def _(guess_words):
    nb.reveal(
        guess_words.value,
        truth="same",
        because="Both have to ask, and nobody answers. Compare the tag with the list of what the node holds, and look at the policy.",
        instead={
            "found": "That would take somebody who knows which tags there are.",
            "runs": "With `Always` it does not, however warm the node is.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **By hand.** The last one works when `reader-c` is mended: it lists what is mounted, and may not write there.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl get pods -n llm-models -l app=reader-c
        kubectl describe pods -n llm-models -l app=reader-c
        kubectl exec -n llm-models deploy/reader-c -- sh -c 'ls -l /mnt/models; touch /mnt/models/mine'
        """,
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "words")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "words",
        "What is the last thing that each message says: who was looked up, or which folder?",
        "`reader-a`: which tags are there? `reader-b`: who is asked? `reader-c`: how is the folder called in the image?",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 7 · Versions that do not move

    Version 2 has the same weights and another chat template: asked for its name, it says another one. None of this shows in a
    Deployment's status. Only the name of its image says which model a pod serves, and only if that name cannot be moved:
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_staging.catalogue)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Two Deployments, one Service. Version 2 is a **canary by pods**: with one pod of each, half of the answers are its own. The way
    back is one command: scale it to none. The draft names tags, sends version 2 no traffic, and loses answers when a pod ends.

    The digest of an image *volume* is not in the pod's status in this version of Kubernetes, unlike that of a container: what
    the pod serves can be read in its specification alone, and only if that names a digest.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_tag = nb.predict(
        "Two pods of one Deployment name `:stable`. The tag is moved between their starts. Who notices?",
        {
            "status": "The Deployment: it shows two revisions",
            "nobody": "Nobody: two models answer behind one name",
            "kubelet": "The kubelet, which compares the digests",
        },
    )
    guess_tag
    return (guess_tag,)


@app.cell
def _():
    versions_yaml = """
    apiVersion: v1
    kind: Service
    metadata:
      name: model
      namespace: llm-models
    spec:
      selector: {app: model, version: "1"}
      ports:
        - {name: http, port: 8000, targetPort: http}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: model-v1
      namespace: llm-models
    spec:
      replicas: 1
      selector:
        matchLabels: {app: model, version: "1"}
      template:
        metadata:
          labels: {app: model, version: "1"}
        spec:
          containers:
            - name: server
              image: $VLLM
              args: [--config, /etc/vllm/serve.yaml]
              ports:
                - {name: http, containerPort: 8000}
              startupProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 1
                failureThreshold: 300
              readinessProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 2
              resources:
                requests: {cpu: 10m, memory: 512Mi}
                limits: {cpu: "2", memory: 2Gi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: model, mountPath: /mnt/models, readOnly: true, subPath: models}
                - {name: serve, mountPath: /etc/vllm}
          volumes:
            - name: model
              image: {reference: "$MODELS:1", pullPolicy: IfNotPresent}
            - name: serve
              configMap: {name: model-server}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: model-v2
      namespace: llm-models
    spec:
      replicas: 0
      selector:
        matchLabels: {app: model, version: "2"}
      template:
        metadata:
          labels: {app: model, version: "2"}
        spec:
          containers:
            - name: server
              image: $VLLM
              args: [--config, /etc/vllm/serve.yaml]
              ports:
                - {name: http, containerPort: 8000}
              startupProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 1
                failureThreshold: 300
              readinessProbe:
                httpGet: {path: /health, port: http}
                periodSeconds: 2
              resources:
                requests: {cpu: 10m, memory: 512Mi}
                limits: {cpu: "2", memory: 2Gi}
              securityContext:
                runAsNonRoot: true
                runAsUser: 1000
                allowPrivilegeEscalation: false
                capabilities: {drop: [ALL]}
              volumeMounts:
                - {name: model, mountPath: /mnt/models, readOnly: true, subPath: models}
                - {name: serve, mountPath: /etc/vllm}
          volumes:
            - name: model
              image: {reference: "$MODELS:stable", pullPolicy: IfNotPresent}
            - name: serve
              configMap: {name: model-server}
    """
    return (versions_yaml,)


@app.cell(hide_code=True)
def _(lab, versions_yaml):
    lab.live(draw_staging.preview, versions_yaml)
    return


@app.cell(hide_code=True)
def _(apply_versions, lab, versions_yaml):
    draw_staging.apply_panel(lab, versions_yaml, apply_versions)
    return


@app.cell(hide_code=True)
def _(lab, see_versions):
    draw_staging.witness_panel(lab, "versions", see_versions)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_staging.versions_picture)
    return


@app.cell(hide_code=True)
def _(guess_tag):
    nb.reveal(
        guess_tag.value,
        truth="nobody",
        because="The Deployment's text has not changed, so it has one revision. Each node kept what the tag stood for when it looked.",
        instead={
            "status": "Its revisions are those of its text, which is the same.",
            "kubelet": "It has what it has: with `IfNotPresent` it does not ask.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **By hand.** A reader has `curl`: ask behind the Service yourself, with version 1 alone, and with one pod of each.
    """)
    return


@app.cell(hide_code=True)
def _(lab):
    nb.by_hand(
        lab,
        r"""
        kubectl get pods -n llm-models -l app=model
        kubectl exec -n llm-models deploy/reader-a -- curl -sS -m 30 -H 'Content-Type: application/json' -d '{"model": "smollm2", "messages": [{"role": "user", "content": "What is your name?"}], "max_tokens": 12}' http://model.llm-models.svc.cluster.local:8000/v1/chat/completions
        """,
    )
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "versions")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "versions",
        "The list above has the names by digest; `$MODEL_V1` and `$MODEL_V2` stand for them in this page's texts.",
        "Which labels does the Service select, and which pods have them?",
        "A pod that is told to end is still sent requests for a moment: `lifecycle: preStop: sleep`, as in lab 02.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 8 · From a model's name to its objects

    In the first half you wrote a Deployment for each model, with labels that fit, a volume and a mount. Whoever wants a model should
    say which one. For this KServe has two kinds: an **InferenceService** names a model and its format, a **ServingRuntime** says how
    models of a format are served. A **controller** makes of the two what you wrote by hand, and keeps it so.

    The kinds here are KServe's API, with the fields that its SDK 0.21.0 names. They are reconciled by the course's own controller: this
    is not KServe. KServe does more (requests to zero, canaries, transformers, other storage), and is installed by an administrator.
    Where KServe itself runs on your cluster, nothing of ours is installed, and the InferenceService of part 11 is applied to it; parts 8
    to 10 need a cluster without it. `LLMInferenceService`, KServe's kind for models that take many cards, is here as a subset that
    nothing reconciles: `kubectl explain llminferenceservice.spec` shows its shape.

    `isvc-controller` is a short program on kopf, meant to be read: `helpers/apps/isvc/`. It watches, reads and writes; the decisions
    are six functions of yours. On each **pass** over an InferenceService it asks them in this order:

    | asked | function | when |
    | --- | --- | --- |
    | does this concern me? | `wakes` | something happened, or ten seconds are over |
    | which runtime? | `find_runtime` | a pass begins; whatever went before, it reads everything anew |
    | what should be there? | `children`, with `model_volume` | before anything is touched |
    | may I touch it? | `step` | once for each child, before the first one is made |
    | what do I say? | `status` | in the end, of what is there by then |

    A function that cannot go on raises `InvalidSpec("why")`. Then nothing is made, and `status` is told the reason.

    First the three that make objects of objects. They serve one model well, the one that their author had. Change them until no line
    of their tables is red. What they read, and what a child needs:

    | in | field | says |
    | --- | --- | --- |
    | a runtime | `spec.supportedModelFormats` | a list of formats by `name`; one with `autoSelect: true` is also served for models that name no runtime |
    | | `spec.disabled` | `true`: this runtime serves nobody |
    | | `spec.containers` | the first is the server: its `ports` say where it listens, and `{{.Name}}` in its `args` stands for the InferenceService's name |
    | an InferenceService | `spec.predictor.model` | `modelFormat`, `storageUri`, and perhaps `runtime`, `args` and `resources` of its own |
    | | `metadata.uid` | its own number: one that is made again under the same name has another |
    | a child | `metadata.ownerReferences` | a list of its owners, each with `apiVersion`, `kind`, `name`, `uid`; one has `controller: true` |
    """)
    return


@app.cell(hide_code=True)
def _():
    draw_controller.examples()
    return


@app.cell(hide_code=True)
def _():
    guess_args = nb.predict(
        "The runtime has `args: [serve, /mnt/models, …]`, and an InferenceService adds `args: [--max-model-len=512]`. What does the server start with?",
        {
            "both": "The runtime's arguments, and then the InferenceService's",
            "own": "The InferenceService's alone: the more specific list wins",
            "merged": "The runtime's, with those of the same name replaced",
        },
    )
    guess_args
    return (guess_args,)


@app.function
def find_runtime(model: dict, runtimes: list[dict]) -> dict:
    """The ServingRuntime for a model: the one that it names, or else one that takes its format of its own accord.

    Args:
        model: what stands in the InferenceService under `spec.predictor.model`.
    """
    for runtime in runtimes:
        if runtime["metadata"]["name"] == model.get("runtime"):
            return runtime
    raise InvalidSpec(f"there is no runtime {model.get('runtime')}")


@app.function
def model_volume(uri: str) -> tuple[dict, str]:
    """What is mounted at /mnt/models: where it comes from, as a volume says it, and which path of it."""
    scheme, _, rest = uri.partition("://")
    if scheme == "pvc":
        return {"persistentVolumeClaim": {"claimName": rest}}, ""
    return {"image": {"reference": rest, "pullPolicy": "IfNotPresent"}}, "models"


@app.function
def children(service: dict, runtime: dict) -> list[dict]:
    """The Deployment and the Service that this InferenceService wants."""
    name, predictor = service["metadata"]["name"], service["spec"]["predictor"]
    model, template = predictor["model"], runtime["spec"]
    source, _ = model_volume(model["storageUri"])
    first = template["containers"][0]
    mount = {"name": "model", "mountPath": "/mnt/models"}
    args = [arg.replace("{{.Name}}", name) for arg in first.get("args") or []]
    container = {
        **first,
        "args": model.get("args") or args,
        "volumeMounts": [*(first.get("volumeMounts") or []), mount],
    }
    pod = {
        "enableServiceLinks": False,
        "containers": [container, *template["containers"][1:]],
        "volumes": [*(template.get("volumes") or []), {"name": "model", **source}],
    }
    labels = {"component": "predictor"}
    metadata = {"name": f"{name}-predictor", "labels": labels}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": predictor.get("minReplicas", 1),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    port = {"name": "http", "port": 80, "targetPort": 8080}
    spec = {"selector": labels, "ports": [port]}
    return [deployment, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}]


@app.cell(hide_code=True)
def _():
    draw_controller.runtime_table(find_runtime)
    return


@app.cell(hide_code=True)
def _():
    draw_controller.volume_table(model_volume)
    return


@app.cell(hide_code=True)
def _():
    draw_controller.children_table(children)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "controller",
        "`find_runtime`: of the four runtimes above the table, which may be chosen by format, and which by its name alone? In which cases does the table say InvalidSpec?",
        "`children`: a red line names one field. Correct it, and the next fault shows. The examples above the functions have every field that you need.",
        "Both children need the same owner: `apiVersion` and `kind` of the service, its name, its uid, and `controller` as True. Labels that all InferenceServices share select the pods of all of them.",
    )
    return


@app.cell(hide_code=True)
def _(guess_args):
    nb.reveal(
        guess_args.value,
        truth="both",
        because="KServe appends: the runtime's arguments first. Of two that name the same setting, vLLM takes the later one.",
        instead={
            "own": "Then every InferenceService would have to repeat how a server is started.",
            "merged": "Nobody but the server knows which arguments mean the same.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 9 · Look at what is there, and say what was seen

    A controller hears of changes. But what it hears is incomplete: a connection breaks, the controller is replaced while somebody
    deletes a Deployment, two changes come as one. Whoever acts on *what happened* is wrong from then on (**edge-triggered**). Whoever
    looks at *what is there* is at most late (**level-triggered**).

    The draft acts when an InferenceService is made, creates what is missing, and says Ready when it has asked for it.
    """)
    return


@app.cell(hide_code=True)
def _():
    guess_ready = nb.predict(
        "An InferenceService serves. You change its arguments so that the new pod never becomes ready. What does `readyReplicas` of its Deployment say a minute later?",
        {
            "one": "1: the old pod serves on, and is counted",
            "zero": "0: the newest template has no ready pod",
            "two": "2: the old pod, and the new one that runs",
        },
    )
    guess_ready
    return (guess_ready,)


@app.cell(hide_code=True)
def _():
    mo.accordion(
        {
            "What a Deployment says of its pods": mo.md(r"""
    | field | says |
    | --- | --- |
    | `metadata.generation` | goes up by one with each change of its `spec` |
    | `status.observedGeneration` | the generation that the counts below are about |
    | `status.replicas` | all of its pods |
    | `status.updatedReplicas` | those of the newest template, ready or not |
    | `status.availableReplicas` | those that are ready, of any template |
    """)
        }
    )
    return


@app.function
def step(service: dict, wanted: dict, found: dict | None) -> str:
    """What to do about one child: "apply" makes it as it is wanted, "leave" does not touch it, "refuse" says that it is somebody else's.

    Args:
        wanted: the child as `children` returned it.
        found: what is there under its name; None where nothing is.
    """
    return "apply" if found is None else "leave"


@app.function
def wakes(kind: str, change: str) -> bool:
    """Whether the controller looks at the InferenceServices that are concerned.

    Args:
        kind: "InferenceService", "ServingRuntime", "Deployment", "Service" or "EndpointSlice", with `change` "ADDED",
            "MODIFIED" or "DELETED"; or "clock", every ten seconds.
    """
    return kind == "InferenceService" and change == "ADDED"


@app.function
def status(service: dict, seen: Seen, problem: Problem | None) -> dict:
    """What the InferenceService's status says.

    Args:
        seen: `deployment` and `service` as they are when the pass is over (None for none), and how many `addresses`
            behind the Service are ready.
        problem: why nothing was made, with `reason` and `message`; None where all was made.
    """
    name, metadata = service["metadata"]["name"], service["metadata"]
    said = {"observedGeneration": 1}
    if problem:
        return {**said, "conditions": [condition("Ready", "False", "Failed", "see the log")]}
    said["url"] = f"http://{name}-predictor.{metadata['namespace']}.svc.cluster.local"
    is_ready, why = serves(seen)
    ready = "True" if is_ready else "False"
    reason = "Serving" if is_ready else "PredictorNotReady"
    return {
        **said,
        "conditions": [
            condition("PredictorReady", ready, reason, why),
            condition("Ready", ready, reason, why),
        ],
    }


@app.function
def serves(seen: Seen) -> tuple[bool, str]:
    """Whether pods of the newest template serve, all that are wanted and no other ones; and what is missing."""
    if seen.deployment is None:
        return False, "there is no Deployment"
    return True, "the Deployment is there"


@app.function(hide_code=True)
def condition(type_: str, status: str, reason: str, message: str) -> dict:
    """A condition, without its time: the controller adds when its status changed."""
    return {"type": type_, "status": status, "reason": reason, "message": message}


@app.cell(hide_code=True)
def _():
    draw_controller.step_table(step)
    return


@app.cell(hide_code=True)
def _():
    draw_controller.wakes_table(wakes)
    return


@app.cell(hide_code=True)
def _():
    draw_controller.status_table(status)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "controller",
        "`step`: `found` may be what you want, may have been edited, or may belong to somebody else. Its `metadata.ownerReferences` say by uid whose it is.",
        "`wakes`: looking once too often costs a few reads. What happens if it looks once too seldom?",
        "`status`: `observedGeneration` is the InferenceService's own `metadata.generation`, and a problem brings its `reason` and `message`.",
        "`serves`: compare the Deployment's counts with `spec.replicas`, each red line of the table is one case. `seen.addresses` counts the pods that the Service leads to.",
    )
    return


@app.cell(hide_code=True)
def _(guess_ready):
    nb.reveal(
        guess_ready.value,
        truth="one",
        because="`readyReplicas` counts all pods, old and new. `updatedReplicas` counts those of the newest template, ready or not.",
        instead={
            "zero": "The Deployment keeps the old pod until the new one is ready: that is what protects your users.",
            "two": "The new pod runs, and is not ready.",
        },
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 10 · Deliver it, and break it

    All functions go into one file, `reconcile.py` in ConfigMap `isvc-controller-decisions`, and a rollout replaces the controller. Until
    then it makes nothing. A file that cannot be read is told here, and is not delivered.

    Then five witnesses make InferenceServices of their own, with names that change each time. What serves in them is a small stand-in in
    place of vLLM, so that a witness takes a minute and no memory. They delete and edit the children, stop the controller meanwhile,
    ask for what nobody can serve, take a name before you do, and rename. **Delete and edit** and **Rename and end**
    stop the controller for a while: start each of them when no other witness runs.
    """)
    return


@app.cell(hide_code=True)
def _(lab, to_reconcile):
    draw_controller.functions_panel(
        lab,
        to_reconcile,
        find_runtime,
        model_volume,
        children,
        step,
        wakes,
        condition,
        serves,
        status,
    )
    return


@app.cell(hide_code=True)
def _(lab, see_children):
    draw_controller.witness_panel(lab, "children", see_children)
    return


@app.cell(hide_code=True)
def _(lab, see_conditions):
    draw_controller.witness_panel(lab, "conditions", see_conditions)
    return


@app.cell(hide_code=True)
def _(lab, see_refusals):
    draw_controller.witness_panel(lab, "refusals", see_refusals)
    return


@app.cell(hide_code=True)
def _(lab, see_repair):
    draw_controller.witness_panel(lab, "repair", see_repair)
    return


@app.cell(hide_code=True)
def _(lab, see_endings):
    draw_controller.witness_panel(lab, "endings", see_endings)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "controller")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "controller",
        "Each red line of the tables above is one that a witness finds.",
        "`kubectl logs -n llm-models deploy/isvc-controller` says which function failed, and with what.",
        "What names no owner is nobody's: `ownerReferences`, with the uid of the InferenceService and `controller: true`.",
        "`status`: compare `status.observedGeneration` of the Deployment with its `metadata.generation` before you believe its counts.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 11 · A model by its name

    Now the model of the first half, by its name and version, served by vLLM through your controller. `$MODEL_V1` stands for version 1 by
    its digest. The runtime `vllm` is there already: `kubectl get servingruntime vllm -n llm-models -o yaml` shows how it starts, and
    that it takes `huggingface` models of its own accord. The draft names the model by a tag, on storage that this controller does not know.

    When it answers, break it by hand: `kubectl delete deployment smollm-predictor -n llm-models`, and watch the table.
    """)
    return


@app.cell
def _():
    isvc_yaml = """
    apiVersion: serving.kserve.io/v1beta1
    kind: InferenceService
    metadata:
      name: smollm
      namespace: llm-models
      annotations: {serving.kserve.io/deploymentMode: Standard}
    spec:
      predictor:
        minReplicas: 1
        model:
          modelFormat: {name: huggingface}
          storageUri: oci://$MODELS:stable
    """
    return (isvc_yaml,)


@app.cell(hide_code=True)
def _(isvc_yaml, lab):
    lab.live(draw_staging.preview, isvc_yaml)
    return


@app.cell(hide_code=True)
def _(apply_isvc, isvc_yaml, lab):
    draw_controller.isvc_panel(lab, isvc_yaml, apply_isvc)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(draw_controller.wanted_and_seen)
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(nb.board, "served")
    return


@app.cell(hide_code=True)
def _(lab):
    lab.live(
        nb.task_hints,
        "served",
        "What does the InferenceService's status say? `kubectl describe inferenceservice smollm -n llm-models`",
        "`storageUri` begins with `oci+native://`, and goes on with an image. Which name does not move?",
        "A runtime is found by its name, or by a format that it takes with `autoSelect`.",
    )
    return


@app.cell(hide_code=True)
def _(PARTS, lab):
    lab.live(nb.scoreboard, PARTS)
    return


@app.cell(hide_code=True)
def _():
    tick = nb.refresh("10s")
    tick
    return (tick,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What to notice

    - A model is data that is never changed: one copy for a node, read-only, is enough for all of its pods.
    - An access mode says where a claim may be mounted. `readOnly` says what may be done there.
    - A probe has to ask for what is needed, not for what leads to it.
    - The reason in a status names the step, not the cause. Read the message to its end.
    - A tag is a promise of whoever may push. A digest is the content.
    - A version that stands beside the old one can be taken back before anybody has to explain it.
    - A controller does not react to events: it looks, compares, and does what is missing. Whatever it missed is seen by the next look.
    - A status says what was seen, and of which generation. Everything else is hope.
    """)
    return


@app.cell(hide_code=True)
def _(QUESTIONS, answers):
    nb.quiz_board(answers, QUESTIONS)
    return


@app.cell(hide_code=True)
def _(answered, pressed, reconnect):
    # What marimo must not create anew when a cell above is edited.
    lab, acted = nb.open_page("09", reconnect.value, answered(), pressed=pressed)
    return acted, lab


@app.cell(hide_code=True)
def _():
    pressed = False  # `course solve` runs the solution with True: as if every button had been pressed
    return (pressed,)


@app.cell(hide_code=True)
def _():
    reconnect = mo.ui.run_button(label="Connect again")
    answered, cluster_answers = mo.state(None)
    apply_car = nb.apply_button("Apply the modelcar")
    apply_claim = nb.apply_button("Apply the claim")
    apply_copy = nb.apply_button("Apply the copy")
    apply_image = nb.apply_button("Apply the image volume")
    apply_isvc = nb.apply_button("Apply the InferenceService")
    apply_readers = nb.apply_button("Apply the readers")
    apply_table = nb.apply_button("Apply the table")
    apply_versions = nb.apply_button("Apply both versions")
    place = nb.apply_button("Put what this lab needs in place", kind="neutral")
    see_car = draw_staging.run_or_stop("Look at the modelcar")
    see_children = draw_staging.run_or_stop("Look at what is made")
    see_claim = draw_staging.run_or_stop("Look at the claim")
    see_conditions = draw_staging.run_or_stop("Look at the status")
    see_copy = draw_staging.run_or_stop("Look at the copy")
    see_endings = draw_staging.run_or_stop("Rename and end")
    see_image = draw_staging.run_or_stop("Look at the image volume")
    see_refusals = draw_staging.run_or_stop("Ask for what cannot be served")
    see_repair = draw_staging.run_or_stop("Delete and edit")
    see_versions = draw_staging.run_or_stop("Roll version 2 out, and back")
    to_reconcile = nb.apply_button("Deliver the functions")
    return (
        answered,
        apply_car,
        apply_claim,
        apply_copy,
        apply_image,
        apply_isvc,
        apply_readers,
        apply_table,
        apply_versions,
        cluster_answers,
        place,
        reconnect,
        see_car,
        see_children,
        see_claim,
        see_conditions,
        see_copy,
        see_endings,
        see_image,
        see_refusals,
        see_repair,
        see_versions,
        to_reconcile,
    )


@app.cell(hide_code=True)
def _(acted, lab, tick):
    nb.look(lab, tick, acted)
    return


@app.cell(hide_code=True)
def _():
    PARTS = (
        nb.Part("1 · A copy in every pod", 12, ("copy",)),
        nb.Part("2 · One claim for all", 14, ("claim",)),
        nb.Part("3 · A neighbour's files: the modelcar", 18, ("car",)),
        nb.Part("4 · An image for a volume", 10, ("image",)),
        nb.Part("5 · Which one, and why", 10, ("decide",)),
        nb.Part("6 · What the kubelet says", 12, ("words",)),
        nb.Part("7 · Versions that do not move", 16, ("versions",)),
        nb.Part("8 · From a model's name to its objects", 20),
        nb.Part("9 · Look at what is there, and say what was seen", 16),
        nb.Part("10 · Deliver it, and break it", 14, ("controller",)),
        nb.Part("11 · A model by its name", 8, ("served",)),
    )
    QUESTIONS = [
        nb.Question(
            "Eight replicas of a 140 GB model run on two nodes, four on each. How much disk do their pods take beside the image store, with init copies and with image volumes?",
            (
                nb.Option("280 GB and 280 GB", "An init copy is made for each pod, not for each node."),
                nb.Option(
                    "1,120 GB and nothing",
                    "Eight copies; and eight mounts of what each node has in its image store anyway.",
                    right=True,
                ),
                nb.Option("1,120 GB and 1,120 GB", "An image volume copies nothing into the pod."),
            ),
        ),
        nb.Question(
            "A claim is shared by all replicas, and one of them is taken over. What keeps the weights of all others as they are?",
            (
                nb.Option(
                    "`accessModes: [ReadOnlyMany]`",
                    "It says where the claim may be mounted. The mount is still `rw`.",
                ),
                nb.Option(
                    "`readOnly: true` on the mount", "The kernel refuses the write, whoever asks.", right=True
                ),
                nb.Option("That the server runs as user 1000", "So may whoever wrote the files."),
            ),
        ),
        nb.Question(
            "A pod says ErrImagePull for an image volume. `kubectl describe node` lists the image. What do you look at next?",
            (
                nb.Option(
                    "The `subPath`",
                    "That is looked for when the image was found, and its failure is a CreateContainerError.",
                ),
                nb.Option(
                    "The message to its end, and the policy",
                    "The name had to be asked for. With `Always` that is so although the image is there.",
                    right=True,
                ),
                nb.Option("The node's disk", "The image is on it."),
            ),
        ),
        nb.Question(
            "An InferenceService says `Ready: True` and `observedGeneration: 3`; its `metadata.generation` is 4. What do you know?",
            (
                nb.Option("What was asked for last is served", "That would be said of generation 4."),
                nb.Option(
                    "What was asked for before is served, and of the change nothing is known yet",
                    "A status is about what was looked at. The controller has not looked since the change, or did not get to its end.",
                    right=True,
                ),
                nb.Option("The change was refused", "Then the status would say so, of generation 4."),
            ),
        ),
        nb.Question(
            "Somebody deletes the Deployment that your controller made, while the controller is being replaced. What brings it back?",
            (
                nb.Option(
                    "The event of its deletion", "It came while nobody listened, and does not come again."
                ),
                nb.Option(
                    "The next pass, which looks at what is there",
                    "A pass compares what is wanted with what is seen, and needs no event to have happened.",
                    right=True,
                ),
                nb.Option("The garbage collector", "It deletes what has lost its owner; it makes nothing."),
            ),
        ),
    ]
    answers = nb.quiz(QUESTIONS)
    return PARTS, QUESTIONS, answers


if __name__ == "__main__":
    app.run()
