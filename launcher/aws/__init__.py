"""The only room that imports boto3.

client     each call that the launcher makes, as a method with values in and out
answers    answers, held against botocore's own description of them: whatever is of another shape is no answer
refusals   what AWS's error codes mean: one of the launcher's errors for each refusal

A new call is a method of `client.Aws`, and a line in `doctor.least_policy`, which a test holds against it.
"""
