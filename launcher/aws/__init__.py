"""The only room that imports boto3.

client     each call that the launcher makes, as a method with values in and out
answers    validates responses against botocore's model: a response of another shape is an error
partitions what differs between AWS's partitions: ARNs, registries, names of VPC endpoints
refusals   maps AWS's error codes to the launcher's errors
sign_in    what to do where credentials are missing or not accepted, by what is configured to give them

Dictionaries and values of `models` come out; a refusal is an `AwsError`, and one that may pass by itself a
`TransientAwsError`. What it means for a run is decided above.

A new call needs a method in `client.Aws` and a line in `doctor.least_policy`; a test compares the two.
"""
