# Prints a member of a JSON file, and fails where it is none: cmake -DFILE=x.json -DMEMBER=gpu -P json-member.cmake
cmake_minimum_required(VERSION 3.19)
file(READ "${FILE}" text)
string(JSON value GET "${text}" "${MEMBER}")
execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "${value}")
